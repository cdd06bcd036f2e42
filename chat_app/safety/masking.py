"""Keys out of a text before it is kept: a mark in place of each, the rest as it was.

What the rule for keys finds (`secrets`) is masked with all of it that may follow: a rule needs a key's least length,
what is kept must not hold its end. The mark says of which kind it was and keeps what everybody knows of it, at most
the first four characters. It does not know why a text is kept, nor by whom it is read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chat_app.safety.normal import Folded
from chat_app.safety.rules import Pattern
from chat_app.safety.secrets import ANY_FULL, FINDERS, LONGEST_OPENING, Finder

SHOWN = 4
"""Characters of a key's opening that a mark keeps."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What stands for the part [start, end)."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Masked:
    """A text as it may be kept, and where in it the original's characters are."""

    text: str
    marks: tuple[_Mark, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Masked":
        folded = Folded.of(text)
        found = _found(folded.ascii)
        if not found:
            return cls(text)
        places = folded.spans([(mark.start, mark.end) for mark in found])
        marks = tuple(_Mark(*place, mark.text) for place, mark in zip(places, found, strict=True))
        parts, at = list[str](), 0
        for mark in marks:
            parts += text[at : mark.start], mark.text
            at = mark.end
        return cls("".join([*parts, text[at:]]), marks)

    def at(self, position: int) -> int:
        """Where a position of the original lies; of one inside a key where its mark begins."""
        moved = 0
        for mark in self.marks:
            if position <= mark.start:
                break
            if position < mark.end:
                return mark.start + moved
            moved += len(mark.text) - (mark.end - mark.start)
        return position + moved


def masked(text: str) -> str:
    """The text with a mark for every key in it."""
    return Masked.of(text).text


class _Kind:
    """One kind of key as it lies in a folded text, from its opening to its last character."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._opening = Pattern(rf"({finder.secret.opening})\z")
        self._rest = re.compile(finder.secret.rest.encode())

    def marks(self, words: bytes) -> Iterator[_Mark]:
        at = 0
        while (body := self._finder.find(words, at)) is not None:
            first = max(0, body[0] - LONGEST_OPENING - 1)
            opening = self._opening.find(words[first : body[0]])
            start = body[0] if opening is None else first + opening[0]
            rest = self._rest.match(words, body[1])
            at = body[1] if rest is None else rest.end()
            head = words[start : min(body[0], start + SHOWN)].decode()
            yield _Mark(start, at, f"{head}…[masked: {self._finder.secret.what}]")


_KINDS = tuple(map(_Kind, FINDERS))


def _found(words: bytes) -> list[_Mark]:
    """All keys in a folded text, in order; of those that overlap the first names them all."""
    if ANY_FULL.find(words) is None:
        return []
    found: list[_Mark] = []
    for mark in sorted((mark for kind in _KINDS for mark in kind.marks(words)), key=lambda mark: mark.start):
        if found and mark.start < found[-1].end:
            found[-1] = _Mark(found[-1].start, max(found[-1].end, mark.end), found[-1].text)
        else:
            found.append(mark)
    return found
