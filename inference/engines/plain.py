"""What a person types must never act as the template's control tokens. Knows no model: it goes by their usual look."""

import re
from collections.abc import Callable

import orjson

CONTROL = re.compile(r"<(?=\|[A-Za-z0-9_]+\|>)")


def plain_text(text: str) -> str:
    """The text with a zero-width space in whatever looks like a control token, which makes it plain text."""
    return CONTROL.sub("<\u200b", text)


def plain_arguments(arguments: str, plain: Callable[[str], str] = plain_text) -> str:
    """A call's arguments with nothing left to `plain` away, however its characters were escaped.

    They are a JSON object, which templates insist on, whatever a model wrote: what is none becomes the value of one.
    """
    try:
        if isinstance(read := orjson.loads(arguments), dict):
            return plain(orjson.dumps(read).decode())
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # The second one: hundreds of levels.
        pass
    return orjson.dumps({"arguments": plain(arguments)}).decode()
