"""What the figures of the benchmarks must keep to: the limits in their tables, and why a run ends with 1."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """The limit of a figure, in the figure's unit. `most`: it may not be more than that; else not less."""

    limit: float
    most: bool
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is within; what is no number is not."""
        return value <= self.limit if self.most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.limit:g}{self.unit}"


def at_most(limit: float, unit: str = "") -> Bound:
    return Bound(limit, True, unit)


def at_least(limit: float, unit: str = "") -> Bound:
    return Bound(limit, False, unit)


Bounds = Mapping[str, Bound]
"""By the figure's key in the JSON."""
LATE = at_most(250, " ms")
"""Of a token at its client: text is gathered for PARLEY_GATHER_MS (160 ms) when many streams run, and what the check
holds back waits for the next piece."""

GATEWAY: Bounds = {
    "added_ms_p50": at_most(4, " ms"),
    "requests_per_s_50": at_least(500, "/s"),
    "requests_per_s_50_fleet": at_least(350, "/s"),
    "throughput_over_peer": at_least(6),
    "cpu_us_token_20": at_most(90, " µs"),
    "cpu_us_token_20_fleet": at_most(140, " µs"),
    "cpu_us_token_1": at_most(400, " µs"),
    "cpu_ms_turn_200": at_most(20, " ms"),
    "cpu_ms_turn_200_at_once": at_most(20, " ms"),
    "steps_overhead_ms": at_most(2, " ms"),
    "steps_overhead_ms_fleet": at_most(2, " ms"),
    "delay_ms_p95_20": LATE,
    "delay_ms_p95_20_fleet": LATE,
    "delay_ms_p95_1": LATE,
    "delay_ms_p95_1_fleet": LATE,
}

TURN: Bounds = {
    **{f"throughput_ratio_{streams}": at_least(0.95) for streams in (1, 4, 8)},
    "added_ttft_ms_p50": at_most(25, " ms"),
    "page_ttft_ms_p50": at_most(150, " ms"),
    "page_2000_shown_s": at_most(1.2, " s"),
    "page_ready_cold_s": at_most(2.5, " s"),
    "page_mb_cold": at_most(1.5, " MB"),
    "stop_ms_p50": at_most(100, " ms"),
}

HOSTILE: Bounds = {
    f"{key}{column}": bound
    for key, bound in {
        "loop_delay_ms_max": at_most(200, " ms"),
        "rss_growth_mb": at_most(30, " MB"),
        "honest_ok_share": at_least(0.99),
        "let_in": at_most(0),
        "leaked": at_most(0),
    }.items()
    for column in ("", "_fleet")
}

PEERS = ("", "native_")
"""Prefixes of the figures beside llama.cpp's own server, and beside the binary that LLAMA_SERVER names."""
INFERENCE: Bounds = {
    **{f"{peer}tokens_ratio_{streams}": at_least(0.97) for peer in PEERS for streams in (1, 4, 8, 16)},
    **{f"{peer}ttft_ratio": at_most(1.05) for peer in PEERS},
    "cached_ttft_ratio": at_most(0.25),
    "fair_p95_ratio": at_most(2),
    "jain": at_least(0.95),
    "cancel_decode_ms_p95": at_most(50, " ms"),
    "cancel_prefill_ms_p95": at_most(1500, " ms"),
    "resume_s": at_most(2, " s"),
}

GPU: Bounds = {f"gpu_tokens_ratio_{streams}": at_least(0.97) for streams in (1, 16)}


def missed(figures: Mapping[str, float | str | None], bounds: Bounds) -> list[str]:
    """The figures that are outside their bounds, in words. One that was not measured (absent, or None) is no miss."""
    measured = {key: value for key in bounds if isinstance(value := figures.get(key), (int, float))}
    return [
        f"{key} is {value:.4g}, not {bounds[key]}" for key, value in measured.items() if not bounds[key].holds(value)
    ]
