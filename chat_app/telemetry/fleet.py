"""The figures of the inference replicas that this process sends to, read when somebody asks for /metrics.

It knows replicas by these figures only: how they are watched and chosen is inference's.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chat_app.telemetry.metrics import REGISTRY


class Replica(Protocol):
    """What is measured of a replica. `inference.replica.Replica` is one."""

    name: str
    requests: int
    failures: int
    retries: int
    continuations: int

    @property
    def healthy(self) -> bool: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def breaker_state(self) -> str: ...


Read = Callable[[Replica], float]

BREAKER = ("closed", "half_open", "open")
GAUGES: dict[str, tuple[str, Read]] = {
    "up": ("Whether it answers and takes new work.", lambda one: one.healthy),
    "in_flight": ("Our requests that run or wait there.", lambda one: one.in_flight),
}
COUNTERS: dict[str, tuple[str, Read]] = {
    "requests": ("Requests sent there.", lambda one: one.requests),
    "failures": ("Requests and answers that were lost there.", lambda one: one.failures),
    "retries": ("Requests taken over from another before their first token.", lambda one: one.retries),
    "continuations": ("Answers that went on there from their text so far.", lambda one: one.continuations),
}


class Fleet(Collector):
    """`parley_replica_…`, one line for each of `replicas`; none where a single engine answers."""

    def __init__(self) -> None:
        self.replicas: Sequence[Replica] = ()

    def collect(self) -> Iterable[Metric]:
        for kind, figures in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, (text, read) in figures.items():
                family = kind(f"parley_replica_{name}", text, labels=["replica"])
                for one in self.replicas:
                    family.add_metric([one.name], read(one))
                yield family
        breaker = GaugeMetricFamily(
            "parley_replica_breaker", "1 for the state that its circuit breaker is in.", labels=["replica", "state"]
        )
        for one in self.replicas:
            for state in BREAKER:
                breaker.add_metric([one.name, state], one.breaker_state == state)
        yield breaker


FLEET = Fleet()
REGISTRY.register(FLEET)
