"""What JSON text says once nothing in it is escaped any more: it knows no keys and no rules.

Who writes JSON may write a letter as `\\u0041`, a slash as `\\/`, and JSON within a string of JSON; whatever reads it
undoes that. Text that is no whole JSON is read in the same way.
"""

import json
import re

DEEPEST = 4
"""How often text is read anew: so many JSON texts stand within one another."""

_BACKSLASH = "\x00"
"""Stands for an escaped backslash until all else is read: such a character is in no text that is checked."""
_PLAIN = (('\\"', '"'), ("\\/", "/"), ("\\b", "\b"), ("\\f", "\f"), ("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"))
_CODES = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+")


def unescaped(text: str) -> str:
    """The text without the escapes of JSON, however often it was written as a string of JSON, up to `DEEPEST`."""
    for _ in range(DEEPEST):
        if "\\" not in text or (read := _once(text)) == text:
            break
        text = read
    return text


def _once(text: str) -> str:
    text = text.replace(_BACKSLASH, "").replace("\\\\", _BACKSLASH)
    for written, meant in _PLAIN:
        text = text.replace(written, meant)
    return _CODES.sub(_characters, text).replace(_BACKSLASH, "\\")


def _characters(codes: re.Match[str]) -> str:
    """The characters of some codes of UTF-16; half a pair is none."""
    read: str = json.loads(f'"{codes[0]}"')
    return read.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace(_BACKSLASH, "")
