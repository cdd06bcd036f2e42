"""One spelling for text that may be disguised, and the way back to the original.

Rules look at folded text: compatibility forms (full width, mathematical and circled letters) become plain letters,
accents fall away, invisible and control characters vanish, Cyrillic and Greek letters that look Latin become Latin,
and every kind of blank becomes a space (line breaks and tabs stay). Each character is folded by itself, so folding
the pieces of a stream gives the folded whole. Case is kept: keys depend on it, and phrase rules fold it themselves.
Leetspeak is not touched here: a 1 is an i only inside a word that a rule looks for.

It does not know any rule, and it knows only letters that pass for Latin ones: other scripts stay as they are.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

_LOOK_ALIKES = str.maketrans(
    # Cyrillic, then Greek, then small capitals and a few dotless or turned Latin letters.
    "АВЕЅІЈКМНОРСТУХаеорсухіјѕһԁԛԝѵӏɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧαειοκνρτυχϲϳᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢıȷɑ",
    "ABESIJKMHOPCTYXaeopcyxijshdqwvlgABEZHIKMNOPTYXaeiokvptuxcjABCDEFGHIJKLMNOPRSTUVWYZija",
)
_KEPT_BLANKS = "\n\t\r"
_ASCII_TO_FOLD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TAGS = range(0xE0020, 0xE007F)
_REMEMBERED = 65_536
"""Characters whose folding is kept: all that are in use, in a few megabytes at the very most."""


def _fold_one(char: str) -> str:
    """The folding of one character: usually one character, sometimes none or several."""
    if char in _KEPT_BLANKS:
        return char
    if ord(char) in _TAGS:
        # Invisible copies of ASCII, used to smuggle instructions past a reader's eye: read what the model reads.
        return chr(ord(char) - 0xE0000)
    # Most characters are made of nothing smaller, and asking that first is what keeps texts full of rare ones cheap.
    is_single = not unicodedata.decomposition(char)
    folded = []
    for part in char if is_single else unicodedata.normalize("NFKC", char):
        base = part if is_single else unicodedata.normalize("NFD", part)[0]
        base = base.translate(_LOOK_ALIKES)
        kind = unicodedata.category(base)
        if base.isspace():
            folded.append(" ")
        elif kind not in ("Cc", "Cf", "Cs", "Mn", "Me"):
            # A mark that is part of a letter of another script (kana, Hangul) stays with it.
            folded.append(base if base.isascii() else part)
    return "".join(folded)


class _Table(dict[int, str]):
    """A translation table that works out each character once."""

    def __missing__(self, code: int) -> str:
        folded = _fold_one(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = folded
        return folded


_TABLE = _Table()


def _is_plain(text: str) -> bool:
    """Whether folding changes nothing: the case of almost every piece of an English answer, so it is asked first."""
    return text.isascii() and _ASCII_TO_FOLD.search(text) is None


def fold(text: str) -> str:
    """`text` in its one spelling. `fold(a + b) == fold(a) + fold(b)`, and folding twice changes nothing."""
    if _is_plain(text):
        return text
    return text.translate(_TABLE)


def plain(folded: str) -> bytes:
    """Folded text as ASCII, one byte per character; what has no ASCII spelling becomes `?`.

    One byte per character keeps offsets equal, and lets the rules be plain byte patterns.
    """
    return folded.encode("ascii", "replace")


def origin(original: str, position: int) -> int:
    """Index in `original` of the character that gave the folded character at `position`; the length at the end."""
    if _is_plain(original):
        return min(position, len(original))
    seen = 0
    for index, char in enumerate(original):
        seen += len(_TABLE[ord(char)])
        if seen > position:
            return index
    return len(original)


@dataclass(frozen=True, slots=True)
class Folded:
    """A text, its folding as ASCII, and the way back."""

    original: str
    ascii: bytes

    @classmethod
    def of(cls, text: str) -> "Folded":
        return cls(text, plain(fold(text)))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original that the folded part [start, end) came from, with all that was dropped in it."""
        first = origin(self.original, start)
        return first, first if end <= start else origin(self.original, end - 1) + 1

    def spans(self, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The same for many parts, none of them empty, at the cost of one."""
        if _is_plain(self.original):
            return list(parts)
        places = array("I", (at for at, char in enumerate(self.original) for _ in _TABLE[ord(char)]))
        return [(places[start], places[end - 1] + 1) for start, end in parts]
