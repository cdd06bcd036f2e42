"""What an argument of an event may be. Each kind reads a value that a client sent, or refuses it.

None of them knows an event. What is read is new, and bounded: nothing of what was sent lives on beside it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reflex_base.utils.form import FORM_DATA_ENTRIES_KEY

_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_FIELDS = 20
"""Fields that a form may send: more than any of ours has, as browsers' extensions add their own."""


class Refused(Exception):
    """An event may not run. The message is for the page where an honest one can have sent it, else empty."""


class Argument(Protocol):
    def read(self, value: object) -> Any:
        """The value. Raises `Refused`."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at most `most` characters (a function where a setting says so), and none that no database can hold
    unless it is `odd`: then somebody cleans it."""

    most: int | Callable[[], int]
    odd: bool = False

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise Refused
        most = self.most if isinstance(self.most, int) else self.most()
        if len(value) > most:
            raise Refused(f"This text has {len(value):,} characters; at most {most:,} are taken. Shorten it.")
        if not self.odd and ("\0" in value or _SURROGATE.search(value)):
            raise Refused
        return value


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first `most` characters of a text, however long it is."""

    most: int

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise Refused
        return value[: self.most]


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that are known here; others are dropped."""

    fields: Mapping[str, Text]

    def read(self, value: object) -> dict[str, str]:
        sent = _entries(value)
        return {name: self.fields[name].read(text) for name, text in sent.items() if name in self.fields}


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts, or null for none."""

    count: int
    each: Text

    def read(self, value: object) -> list[str] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > self.count:
            raise Refused
        return [self.each.read(text) for text in value]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the browser keeps for us, by name; names that are not ours are dropped, null is for nothing."""

    names: Callable[[], frozenset[str]]
    each: Text

    def read(self, value: object) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Refused
        ours = self.names()
        return {name: self.each.read(text) for name, text in value.items() if name in ours and text is not None}


def _entries(value: object) -> dict[str, object]:
    """A form's fields, as a plain mapping or as the pairs that Reflex's page sends; of one name the last."""
    if not isinstance(value, dict):
        raise Refused
    pairs = value.get(FORM_DATA_ENTRIES_KEY)
    if pairs is None:
        pairs = list(value.items())
    if not isinstance(pairs, list) or len(pairs) > MOST_FIELDS:
        raise Refused
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise Refused
    return dict(pairs)
