"""The app's own figures, as Prometheus reads them from /metrics. Names and labels only; never a person, never content.

A figure counts what this process did. It does not know how it is served, nor which process is next to it.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from chat_app.telemetry.events import TurnEvent, app_version

REGISTRY = CollectorRegistry(auto_describe=True)
"""Of our own, so that nothing else in the process is published by accident and a reload does not collide."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)

BUILD = Gauge("parley_build_info", "Always 1; the label names the version.", ["version"], registry=REGISTRY)
BUILD.labels(app_version()).set(1)

TURNS = Counter(
    "parley_turns", "Turns that ended, by how they ended.", ["status", "source", "model"], registry=REGISTRY
)
REFUSED = Counter("parley_refusals", "Turns that a check refused.", ["stage", "category"], registry=REGISTRY)
TOKENS = Counter("parley_tokens", "Tokens of ended turns.", ["kind", "model"], registry=REGISTRY)
COST = Counter("parley_cost_micro", "Price of ended turns in micro-units.", ["model"], registry=REGISTRY)
QUEUE = Histogram("parley_queue_seconds", "From the request to the work on it.", registry=REGISTRY, buckets=_QUICK)
TTFT = Histogram(
    "parley_ttft_seconds",
    "From the request to the first token.",
    ["model"],
    registry=REGISTRY,
    buckets=_QUICK,
)
DURATION = Histogram("parley_turn_seconds", "From the request to the end.", ["model"], registry=REGISTRY, buckets=_LONG)
SPEED = Histogram(
    "parley_tokens_per_second",
    "Tokens per second of an answer, once it flows.",
    ["model"],
    registry=REGISTRY,
    buckets=(1, 2, 5, 10, 20, 40, 80, 160, 320, 640),
)
TAKEOVERS = Counter(
    "parley_takeovers", "Answers that another owner had begun and this process ended.", registry=REGISTRY
)

ACTIVE = Gauge("parley_generations_active", "Answers that this process is writing now.", registry=REGISTRY)
FLUSH = Histogram(
    "parley_log_flush_seconds",
    "Storing one flush of the generation log.",
    registry=REGISTRY,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
VIEWERS = Gauge("parley_viewers", "Streams that are being followed in this process.", registry=REGISTRY)
EVENTS_WAITING = Gauge("parley_events_waiting", "Events that are not in a file yet.", registry=REGISTRY)

HTTP = Counter("parley_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
HTTP_SECONDS = Histogram(
    "parley_http_seconds", "Until the headers of the answer.", ["route"], registry=REGISTRY, buckets=_QUICK
)
LOOP_DELAY = Histogram(
    "parley_loop_delay_seconds",
    "How much later than asked for the event loop came back, fifty times a second: what everything here waits.",
    registry=REGISTRY,
    buckets=(
        0.002,
        0.005,
        0.01,
        0.02,
        0.03,
        0.05,
        0.075,
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.4,
        0.5,
        0.75,
        1,
        1.5,
        2,
        3,
        5,
        10,
    ),
)
SOCKET_REFUSED = Counter(
    "parley_socket_refused",
    "Pages' sockets, messages and events that were refused: sockets, messages and events of one address, events of one"
    " person, events that no page sends, pages that do not read, requests for sockets that are too long, error"
    " reports.",
    ["what"],
    registry=REGISTRY,
)


def turn_ended(event: TurnEvent) -> None:
    """Count a turn that ended in this process, from the same event that is exported."""
    TURNS.labels(event.status, event.source, event.model).inc()
    if event.refused_stage:
        REFUSED.labels(event.refused_stage, event.refused_category).inc()
    TOKENS.labels("prompt", event.model).inc(event.prompt_tokens)
    TOKENS.labels("completion", event.model).inc(event.completion_tokens)
    TOKENS.labels("cached", event.model).inc(event.cached_tokens)
    COST.labels(event.model).inc(event.cost_micro)
    if event.attempts > 1:
        TAKEOVERS.inc()
    if event.queue_ms is not None:
        QUEUE.observe(event.queue_ms / 1000)
    if event.ttft_ms is not None:
        TTFT.labels(event.model).observe(event.ttft_ms / 1000)
    if event.total_ms is not None:
        DURATION.labels(event.model).observe(event.total_ms / 1000)
    if event.tokens_per_s is not None:
        SPEED.labels(event.model).observe(event.tokens_per_s)
