"""Numbers, times, steps and receipts as a person reads them. Pure functions that do not know where a value is from."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chat_app.accounts.keys import Key
from chat_app.data.ids import now_ms
from chat_app.data.log.entries import clean


def zone(name: str) -> tzinfo:
    """The browser's time zone by its IANA name; UTC for one that is unknown here."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


TODAY = "Today"


def day_label(at_ms: int, today: date, tz: tzinfo) -> str:
    """The heading of a thread of that time in the sidebar."""
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


def rights(key: Key, tz: tzinfo) -> str:
    """What an API key may, until when, and until when its former secret serves."""
    said = [", ".join(key.rights.scopes)]
    if key.rights.models:
        said.append(f"only {', '.join(key.rights.models)}")
    if key.rights.monthly_tokens is not None:
        said.append(f"{count(key.rights.monthly_tokens)} tokens a month")
    if key.rights.requests_per_minute is not None:
        said.append(f"{count(key.rights.requests_per_minute)} calls a minute")
    if key.rights.expires_at is not None:
        ends = "expires" if key.rights.expires_at > now_ms() else "expired"
        said.append(f"{ends} {when(key.rights.expires_at, tz)}")
    if key.former_until is not None and key.former_until > now_ms():
        said.append(f"its former secret serves until {when(key.former_until, tz)}")
    return " · ".join(said)


def keys_left(number: int) -> str:
    """Which API keys a change of the password has left."""
    if not number:
        return "You have no API key that works."
    return f"Your {'API key still works' if number == 1 else f'{number} API keys still work'}."


def signed_out(number: int) -> str:
    """How many browsers were signed out at once."""
    if not number:
        return "No other browser was signed in."
    return f"{number} other {'browser is' if number == 1 else 'browsers are'} signed out."


def count(number: int | None) -> str:
    """`1,234,567`, or `unlimited`."""
    return f"{number:,}" if number is not None else "unlimited"


def next_month(today: date) -> str:
    """The day on which a monthly allowance begins anew: `1 December`."""
    return f"{(today.replace(day=1) + timedelta(days=32)).replace(day=1):%-d %B}"


def queue_position(position: int, eta_s: float) -> str:
    """The line for an answer that waits for the model. `position` 1 is next; `eta_s` is in seconds."""
    ahead = "You are next" if position == 1 else f"{position - 1} ahead of you"
    wait = f"about {max(1, round(eta_s))} s" if eta_s < 90 else f"about {round(eta_s / 60)} minutes"
    return f"The model is busy. {ahead}: {wait}."


BRANCHED = "Another question was asked in this chat meanwhile, in another tab or on another device. Both are kept."
DELETED = "This chat does not exist any more."


NO_ANSWER = "The model gave no answer."
CUT_OFF = "The answer ends here: it is as long as it may be. Ask to go on for the rest."


def thought(took_ms: int | None = None, *, running: bool = True) -> str:
    """The line that stands for what a model thinks, or has thought."""
    if running:
        return "Thinking…"
    if took_ms is None:
        return "Thought"
    return f"Thought for {seconds} s" if (seconds := round(took_ms / 1000)) else "Thought for a moment"


def tool_use(name: str, arguments: str, result: str, state: str) -> str:
    """The line that stands for a tool: what it was asked and, if that is short, what came of it.

    `state`: running, done, failed; unanswered for a call without a result, unknown for a tool that there is not.
    """
    name = _short(name)
    if state == "running":
        return f"Using {name}…"
    if state == "unknown":
        return "Asked for a tool that does not exist"  # What the model called it reaches nobody: it was not checked.
    asked = _short(_values(arguments))
    if state in ("failed", "unanswered"):
        return f"{'Could not use' if state == 'failed' else 'Asked for'} {name}{f': {asked}' if asked else ''}"
    came = "" if "\n" in result.strip() or len(result) > MOST_IN_LINE else _short(result)
    said = (" = " if name == "calculator" else " → ").join(text for text in (asked, came) if text)
    return f"Used {name}{f': {said}' if said else ''}"


MOST_IN_LINE = 60
MOST_SHOWN = 4_000
"""Characters of what a tool was asked, and of its result, that a page is sent."""
_DIRECTIONS = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""Characters that turn what follows them round: a line is ours, and reads as we wrote it."""


def tool_text(text: str) -> str:
    """What a tool was asked, or its result: a JSON object or list laid out for reading, as long as that is short and
    not nested too deep; the beginning of what is long; any other text as it is."""
    if len(text) > MOST_SHOWN:
        return f"{text[:MOST_SHOWN]}… ({len(text) - MOST_SHOWN:,} more characters)"
    try:
        read = json.loads(text)
        # What is escaped in it may be what no page can hold.
        laid_out = clean(json.dumps(read, indent=2, ensure_ascii=False)) if isinstance(read, dict | list) else text
    except (ValueError, RecursionError):
        return text
    return laid_out if len(laid_out) <= MOST_SHOWN else text


def _values(arguments: str) -> str:
    """A call's arguments in a line: one alone without its name."""
    try:
        read = json.loads(arguments) if len(arguments) <= MOST_SHOWN else None
        if not isinstance(read, dict):
            return arguments
        plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in read.items()}
    except (ValueError, RecursionError):
        return arguments
    alone = len(plain) == 1
    return clean(", ".join(value if alone else f"{name}: {value}" for name, value in plain.items()))


def _short(text: str) -> str:
    line = " ".join(text[:MOST_SHOWN].translate(_DIRECTIONS).split())
    return line if len(line) <= MOST_IN_LINE else f"{line[: MOST_IN_LINE - 1]}…"


def refused_text_of(stage: str, person: str, source: str) -> str:
    """Who wrote what the check `stage` refused, and where it came from: chat, api, or empty if that is not known."""
    where = {"chat": "in a chat", "api": "through a program"}.get(source, "")
    said = f"written by {person}" if stage == "input" else f"an answer to {person}"
    return f"{said} {where}".rstrip()


def receipt_lines(receipt: dict[str, Any], plans: Mapping[str, str]) -> list[tuple[str, str]]:
    """What an answer turned out to be, as labelled lines; what is not known is left out. `plans`: names by id."""
    return [(label, value) for label, value in _lines(receipt, plans) if value]


def step_lines(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    """The steps of an answer that took more than one: a model's or a tool's name, then tokens and time."""
    steps = receipt.get("steps") or []
    return [_step(number, step) for number, step in enumerate(steps, 1)] if len(steps) > 1 else []


def _step(number: int, step: dict[str, Any]) -> tuple[str, str]:
    read, written = step.get("prompt_tokens") or 0, step.get("completion_tokens") or 0
    tokens = f"{read:,} + {written:,} tokens" if read or written else ""
    name = step.get("model") or step.get("name") or step.get("kind", "")
    return f"{number}. {_short(str(name))}", ", ".join(text for text in (tokens, _duration(step.get("ms"))) if text)


def _lines(receipt: dict[str, Any], plans: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    prompt, cached = receipt.get("prompt_tokens"), receipt.get("cached_tokens")
    kept, dropped = receipt.get("kept_messages"), receipt.get("dropped_messages")
    cost, plan = receipt.get("cost_micro"), str(receipt.get("plan") or "")
    yield "Model", str(receipt.get("model") or "")
    yield "Plan", plans.get(plan, plan)
    yield "Prompt", f"{prompt:,} tokens" if prompt is not None else ""
    yield "from cache", f"{cached:,} tokens" if cached else ""
    yield "Answer", f"{receipt['completion_tokens']:,} tokens" if "completion_tokens" in receipt else ""
    yield "First token", _duration(receipt.get("ttft_ms"))
    yield "Speed", f"{receipt['tokens_per_s']:,.1f} tokens/s" if receipt.get("tokens_per_s") else ""
    yield "Total", _duration(receipt.get("total_ms"))
    yield "Waited in queue", _duration(receipt.get("queue_ms")) if (receipt.get("queue_ms") or 0) >= 50 else ""
    yield "Checked in", _duration(receipt.get("screen_ms") or None)
    yield "Cost", ("none" if cost == 0 else f"{cost / 1_000_000:.6f}") if cost is not None else ""
    yield "Messages read", f"{kept}" + (f", {dropped} left out" if dropped else "") if kept else ""
    yield "Attempts", str(receipt["attempts"]) if (receipt.get("attempts") or 1) > 1 else ""


def _duration(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:,} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"
