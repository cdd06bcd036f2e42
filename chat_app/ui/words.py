"""Numbers, times and receipts as a person reads them. Pure functions; they do not know where a value comes from."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone(name: str) -> tzinfo:
    """The browser's time zone by its IANA name; UTC for one that is unknown here."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


TODAY = "Today"


def day_label(at_ms: int, today: date, tz: tzinfo) -> str:
    """The heading under which a thread of that time stands in the sidebar."""
    day = datetime.fromtimestamp(at_ms / 1000, tz).date()
    age = (today - day).days
    if age <= 0:
        return TODAY
    if age == 1:
        return "Yesterday"
    if age <= 7:
        return "Previous 7 days"
    if age <= 30:
        return "Previous 30 days"
    if day.year == today.year:
        return f"{day:%B}"
    return f"{day:%B %Y}"


def when(at_ms: int | None, tz: tzinfo) -> str:
    """A date and time of day, or `never`."""
    return f"{datetime.fromtimestamp(at_ms / 1000, tz):%-d %b %Y, %H:%M}" if at_ms else "never"


def count(number: int | None) -> str:
    """`1,234,567`, or `unlimited`."""
    return f"{number:,}" if number is not None else "unlimited"


def next_month(today: date) -> str:
    """The day on which a monthly allowance begins anew: `1 December`."""
    return f"{(today.replace(day=1) + timedelta(days=32)).replace(day=1):%-d %B}"


def place_in_line(position: int, eta_s: float) -> str:
    """What somebody reads whose answer waits for its turn at the model."""
    ahead = "You are next" if position == 1 else f"{position - 1} ahead of you"
    wait = f"about {max(1, round(eta_s))} s" if eta_s < 90 else f"about {round(eta_s / 60)} minutes"
    return f"The model is busy. {ahead}: {wait}."


def receipt_lines(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    """What an answer turned out to be, as labelled lines; what is not known is left out."""
    return [(label, value) for label, value in _lines(receipt) if value]


def _lines(receipt: dict[str, Any]) -> Iterable[tuple[str, str]]:
    prompt, cached = receipt.get("prompt_tokens"), receipt.get("cached_tokens")
    kept, dropped = receipt.get("kept_messages"), receipt.get("dropped_messages")
    cost = receipt.get("cost_micro")
    yield "Model", str(receipt.get("model") or "")
    yield "Plan", str(receipt.get("plan") or "")
    yield "Prompt", f"{prompt:,} tokens" if prompt is not None else ""
    yield "from cache", f"{cached:,} tokens" if cached else ""
    yield "Answer", f"{receipt['completion_tokens']:,} tokens" if "completion_tokens" in receipt else ""
    yield "First token", _duration(receipt.get("ttft_ms"))
    yield "Speed", f"{receipt['tokens_per_s']:,.1f} tokens/s" if receipt.get("tokens_per_s") else ""
    yield "Total", _duration(receipt.get("total_ms"))
    yield "Waited in queue", _duration(receipt.get("queue_ms")) if (receipt.get("queue_ms") or 0) >= 50 else ""
    yield "Cost", ("none" if cost == 0 else f"{cost / 1_000_000:.6f}") if cost is not None else ""
    yield "Messages read", f"{kept}" + (f", {dropped} left out" if dropped else "") if kept else ""
    yield "Attempts", str(receipt["attempts"]) if (receipt.get("attempts") or 1) > 1 else ""


def _duration(ms: int | None) -> str:
    if ms is None:
        return ""
    return f"{ms:,} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"
