"""What the service counted: for Prometheus at `/metrics`, and as plain numbers at `/status`. No content, no users."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from inference.protocol import Usage

Stage = Literal["queue", "prefill", "decode"]
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(slots=True)
class Tally:
    """Totals since the start. `prefill_s` and `decode_s` are what all jobs together spent in that stage, side by side.

    `last_cancel_*` is when the slot (or place in the queue) of a cancelled job was free again: milliseconds since 1970,
    and seconds of CLOCK_MONOTONIC, which all processes of a machine share.
    """

    requests: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    restarts: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    embedded_tokens: int = 0
    tool_calls: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    last_cancel_stage: str = ""
    last_cancel_wall_ms: int = 0
    last_cancel_monotonic: float = 0.0


class Board:
    """The metrics of all models of a service, in a registry of its own, so that several can live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by how they ended", "outcome")
        self.cancelled = self._counter("cancelled", "Cancelled requests by stage", "stage")
        self.tokens = self._counter(
            "tokens",
            "Tokens by kind: prompt, cached (part of it), completion, reasoning (part of it), embedded",
            "kind",
        )
        self.calls = self._counter("tool_calls", "Calls of tools that answers asked for")
        self.seconds = self._counter("seconds", "Seconds that jobs spent in a stage: prefill, decode", "stage")
        self.restarts = self._counter("restarts", "Times the engine was brought back after it had died")
        self.ttft = self._histogram("ttft_seconds", "Arrival to first token", SECONDS)
        self.queue = self._histogram("queue_seconds", "Arrival to slot", SECONDS)
        self.batch = self._histogram("batch", "Jobs that ran together whenever one was let in", BATCHES)
        self.running = self._gauge("running", "Jobs that hold a slot")
        self.waiting = self._gauge("waiting", "Jobs in the queue")
        self.kv_held = self._gauge("kv_tokens_held", "Tokens of the cache that running jobs may come to hold")
        self.kv_tokens = self._gauge("kv_tokens", "Tokens that the cache holds; 0 if every slot has its own")
        self.ready = self._gauge("ready", "1 when the model is loaded and warm")

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"parley_inference_{name}", what, ["model", *labels], registry=self._registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"parley_inference_{name}", what, ["model"], buckets=buckets, registry=self._registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"parley_inference_{name}", what, ["model"], registry=self._registry)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class Metrics:
    """What one model counts, on a board that all models share."""

    def __init__(self, board: Board, model: str) -> None:
        self.tally = Tally()
        self._board = board
        self._model = model
        # Looking a label up takes a lock; these two count every token and every job.
        self._completion = board.tokens.labels(model, "completion")
        self._batch = board.batch.labels(model)

    def arrived(self) -> None:
        self.tally.requests += 1

    def admitted(self, seconds: float, running: int) -> None:
        self._board.queue.labels(self._model).observe(seconds)
        self._batch.observe(running)

    def first_token(self, seconds: float, prefill_s: float) -> None:
        self._board.ttft.labels(self._model).observe(seconds)
        self.tally.prefill_s += prefill_s
        self._board.seconds.labels(self._model, "prefill").inc(prefill_s)

    def decoded(self, seconds: float) -> None:
        self.tally.decode_s += seconds
        self._board.seconds.labels(self._model, "decode").inc(seconds)

    def ended(self, outcome: Literal["completed", "failed", "refused"]) -> None:
        setattr(self.tally, outcome, getattr(self.tally, outcome) + 1)
        self._board.requests.labels(self._model, outcome).inc()

    def cancelled(self, stage: Stage) -> None:
        self.tally.cancelled += 1
        self.tally.last_cancel_stage = stage
        self.tally.last_cancel_wall_ms = time.time_ns() // 1_000_000
        self.tally.last_cancel_monotonic = time.monotonic()
        self._board.requests.labels(self._model, "cancelled").inc()
        self._board.cancelled.labels(self._model, stage).inc()

    def generated(self, tokens: int) -> None:
        self.tally.completion_tokens += tokens
        self._completion.inc(tokens)

    def thought(self, tokens: int) -> None:
        """Of the generated tokens, so many were of the model's reasoning only."""
        self.tally.reasoning_tokens += tokens
        self._board.tokens.labels(self._model, "reasoning").inc(tokens)

    def called(self, calls: int) -> None:
        self.tally.tool_calls += calls
        self._board.calls.labels(self._model).inc(calls)

    def read(self, usage: Usage) -> None:
        self.tally.prompt_tokens += usage.prompt_tokens
        self.tally.cached_tokens += usage.cached_tokens
        self._board.tokens.labels(self._model, "prompt").inc(usage.prompt_tokens)
        self._board.tokens.labels(self._model, "cached").inc(usage.cached_tokens)

    def embedded(self, tokens: int) -> None:
        self.tally.embedded_tokens += tokens
        self._board.tokens.labels(self._model, "embedded").inc(tokens)

    def restarted(self) -> None:
        self.tally.restarts += 1
        self._board.restarts.labels(self._model).inc()

    def now(self, *, running: int, waiting: int, kv_held: int, kv_tokens: int, ready: bool) -> None:
        """Sets the gauges to how it is at this moment."""
        board, model = self._board, self._model
        board.running.labels(model).set(running)
        board.waiting.labels(model).set(waiting)
        board.kv_held.labels(model).set(kv_held)
        board.kv_tokens.labels(model).set(kv_tokens)
        board.ready.labels(model).set(ready)

    def totals(self) -> dict[str, Any]:
        """The tally, and the mean pace of a single job in each stage, in tokens per second (0 before there is any)."""
        tally = self.tally
        new = tally.prompt_tokens - tally.cached_tokens
        return {
            **asdict(tally),
            "prefill_tokens_per_s": round(new / tally.prefill_s, 1) if tally.prefill_s else 0.0,
            "decode_tokens_per_s": round(tally.completion_tokens / tally.decode_s, 1) if tally.decode_s else 0.0,
        }
