"""How a benchmark ends: a table for people, then one line of JSON for programs, and an exit status."""

import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence

from bench.bounds import Bounds, missed

Row = tuple[str, str, str]


def p50(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def show(title: str, rows: Sequence[Row], figures: Mapping[str, float | str | None]) -> None:
    """Print rows of (what, measured, limit or peer), then the figures as the last line."""
    print(f"\n{title} · Python {platform.python_version()} · {platform.machine()}\n")
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps(rounded), flush=True)


def conclude(title: str, rows: Sequence[Row], figures: Mapping[str, float | str | None], bounds: Bounds) -> int:
    """Show it all, and say on standard error what misses its bound. Returns the exit status: 1 if anything does."""
    show(title, rows, figures)
    missing = missed(figures, bounds)
    for miss in missing:
        print(f"Missed: {miss}", file=sys.stderr, flush=True)
    return int(bool(missing))
