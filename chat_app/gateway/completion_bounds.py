"""How much a chat completion may consist of, counted before anything costly is done with it.

What reads JSON and what checks its fields hold the interpreter's lock until they are through, whatever thread they run
in, so it is their work that has to be bounded. It does not know what a field means.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from chat_app.gateway.errors import ApiError, wrong

MOST_VALUES = 100_000
"""Strings, lists, objects and commas in the JSON of a body."""
MOST_MESSAGES = 2_000
MOST_CALLS = 2_000
"""Tool calls in all messages together."""
MOST_PARTS = 4_000
"""Parts of content in all messages together."""
MOST_TOOLS = 128

# A string as a whole, or a sign outside of strings. Nothing is ever looked at twice, whatever the text: possessive.
_VALUE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[{,]', re.DOTALL)


def check_values(raw: bytes) -> None:
    """Raises `ApiError` (400) for JSON of more than `MOST_VALUES` values."""
    if sum(map(raw.count, (b'"', b"[", b"{", b","))) <= MOST_VALUES:
        return  # Without looking which of them stand in a string.
    if sum(1 for _ in islice(_VALUE.finditer(raw), MOST_VALUES + 1)) > MOST_VALUES:
        raise ApiError(400, "bad_input", f"The body has more than {MOST_VALUES:,} values. Send fewer.")


def check_counts(body: dict[str, Any]) -> None:
    """Raises `ApiError` (400), which names the field of which there is too much."""
    messages = _list(body.get("messages"))
    _bound("messages", len(messages), MOST_MESSAGES, "messages")
    fields = [message for message in messages if isinstance(message, dict)]
    calls = _together(message.get("tool_calls") for message in fields)
    _bound("messages", calls, MOST_CALLS, "tool calls together")
    parts = _together(message.get("content") for message in fields)
    _bound("messages", parts, MOST_PARTS, "parts of content together")
    _bound("tools", len(_list(body.get("tools"))), MOST_TOOLS, "tools")


def _bound(param: str, number: int, most: int, what: str) -> None:
    if number > most:
        raise wrong(param, f"has {number:,} {what}; at most {most:,} are taken")


def _together(lists: Iterable[Any]) -> int:
    return sum(len(_list(each)) for each in lists)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
