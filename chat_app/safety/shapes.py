"""Shapes of text that can be recognised while they are still growing.

A regular expression says whether text matches; a stream also has to know whether its end may still *become* a match.
A shape gives both as RE2 patterns: `full` for the whole thing, `open` for every beginning of it that is neither empty
nor whole. It does not know what the shapes stand for.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """`open` is empty where no such beginning exists: a shape of one character."""

    full: str
    open: str


def word(text: str) -> Shape:
    """Exactly this text."""
    begun = ""
    for char in reversed(text[:-1]):
        begun = re.escape(char) + (f"(?:{begun})?" if begun else "")
    return Shape(re.escape(text), begun)


def run(chars: str, least: int, most: int | None = None) -> Shape:
    """`least` (1 or more) to `most` characters out of a class such as `[a-z]`; no limit where `most` is None.

    At the end of a shape give both alike: a key is recognised when it is long enough, not when it stops.
    """
    bound = f"{{{least}}}" if most == least else f"{{{least},{'' if most is None else most}}}"
    return Shape(chars + bound, f"{chars}{{1,{least - 1}}}" if least > 1 else "")


def sequence(*shapes: Shape) -> Shape:
    """One after the other."""
    *before, last = shapes
    full, begun = last.full, last.open
    for shape in reversed(before):
        begun = shape.full + (f"(?:{begun})?" if begun else "")
        begun = f"(?:{shape.open}|{begun})" if shape.open else begun
        full = shape.full + full
    return Shape(full, begun)


def either(*shapes: Shape) -> Shape:
    """Any one of them."""
    return Shape(
        "(?:" + "|".join(shape.full for shape in shapes) + ")",
        "(?:" + "|".join(shape.open for shape in shapes if shape.open) + ")",
    )


def spoken(text: str) -> Shape:
    """Words with one to three blanks between them, known to be whole once something else follows."""
    blank, end = run(r"\s", 1, 3), run("[^a-z0-9]", 1, 1)
    first, *others = text.split()
    return sequence(word(first), *(shape for other in others for shape in (blank, word(other))), end)
