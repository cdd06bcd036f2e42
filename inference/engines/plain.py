"""What a person types must never act as the template's control tokens. Knows no model: it goes by their usual look."""

import re

CONTROL = re.compile(r"<(?=\|[A-Za-z0-9_]+\|>)")


def plain_text(text: str) -> str:
    """The text with a zero-width space in whatever looks like a control token, which makes it plain text."""
    return CONTROL.sub("<\u200b", text)
