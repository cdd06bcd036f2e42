"""What the service counted: for Prometheus at `/metrics`, and as plain numbers at `/status`. No content, no users."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from inference.protocol import Usage

Stage = Literal["queue", "prefill", "decode"]
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(slots=True)
class Tally:
    """Totals since the start. `last_cancel_*` is when the slot (or place in the queue) of a cancelled job was free
    again: milliseconds since 1970, and seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    requests: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    last_cancel_stage: str = ""
    last_cancel_wall_ms: int = 0
    last_cancel_monotonic: float = 0.0


class Metrics:
    """Counts in a registry of its own, so that several services can live in one process."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "parley_inference_requests", "Requests by how they ended", ["outcome"], registry=self._registry
        )
        self._cancelled = Counter(
            "parley_inference_cancelled", "Cancelled requests by stage", ["stage"], registry=self._registry
        )
        self._tokens = Counter("parley_inference_tokens", "Tokens by kind", ["kind"], registry=self._registry)
        self._ttft = Histogram(
            "parley_inference_ttft_seconds", "Arrival to first token", buckets=SECONDS, registry=self._registry
        )
        self._queue = Histogram(
            "parley_inference_queue_seconds", "Arrival to slot", buckets=SECONDS, registry=self._registry
        )
        self._running = Gauge("parley_inference_running", "Jobs that hold a slot", registry=self._registry)
        self._waiting = Gauge("parley_inference_waiting", "Jobs in the queue", registry=self._registry)
        self._ready = Gauge("parley_inference_ready", "1 when the model is warm", registry=self._registry)

    def arrived(self) -> None:
        self.tally.requests += 1

    def admitted(self, seconds: float) -> None:
        self._queue.observe(seconds)

    def first_token(self, seconds: float) -> None:
        self._ttft.observe(seconds)

    def ended(self, outcome: Literal["completed", "failed", "refused"]) -> None:
        setattr(self.tally, outcome, getattr(self.tally, outcome) + 1)
        self._requests.labels(outcome).inc()

    def cancelled(self, stage: Stage) -> None:
        self.tally.cancelled += 1
        self.tally.last_cancel_stage = stage
        self.tally.last_cancel_wall_ms = time.time_ns() // 1_000_000
        self.tally.last_cancel_monotonic = time.monotonic()
        self._requests.labels("cancelled").inc()
        self._cancelled.labels(stage).inc()

    def generated(self, tokens: int) -> None:
        self.tally.completion_tokens += tokens
        self._tokens.labels("completion").inc(tokens)

    def read(self, usage: Usage) -> None:
        self.tally.prompt_tokens += usage.prompt_tokens
        self.tally.cached_tokens += usage.cached_tokens
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("cached").inc(usage.cached_tokens)

    def exposition(self, running: int, waiting: int, ready: bool) -> bytes:
        """Prometheus' text format, with the gauges as they are now."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._ready.set(ready)
        return generate_latest(self._registry)

    def totals(self) -> dict[str, Any]:
        return asdict(self.tally)
