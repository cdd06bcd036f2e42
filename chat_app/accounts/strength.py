"""How easy a password is to guess, by the lists of common passwords, names and words of zxcvbn: nobody is asked.

It knows no account, and keeps nothing of what it looks at.
"""

import re
from collections.abc import Iterable
from itertools import islice
from threading import Lock

from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

LOOKED_AT = 48
"""Characters of a password that are looked at, from its beginning: the cost grows with the square of their number."""
MOST_DISGUISES = 6
"""Different characters such as @ and 3 that may stand for letters: zxcvbn tries all their meanings together, which
takes seconds for many. Further ones are taken for what they are."""
LEAST_SCORE = 3
"""Of zxcvbn's 0 to 4: what is below takes fewer than 10^8 guesses."""
MOST_WORDS, LONGEST_TEXT = 20, 300

_PIECE = re.compile(r"[^\W\d_]{3,}")
_WORD = re.compile(r"[^\W_]{3,}")
_OURS = ("parley",)
_DISGUISES = frozenset(disguise for disguises in L33T_TABLE.values() for disguise in disguises)
_OTHER = "~"
# zxcvbn keeps the words that are a person's own in a variable of its module: two threads would share them.
_ONE_AT_A_TIME = Lock()


def weakness(password: str, about: Iterable[str] = ()) -> str | None:
    """Why the password is easy to guess, in a sentence, or "" where there is none to say; None for one that is not.
    `about`: what everybody knows of its owner, such as their name and address. Takes a
    few milliseconds, and half a second at most."""
    about = tuple(about)
    own = [word for text in about for word in _words(text)][:MOST_WORDS]
    rest = _without(password, (*_OURS, *about))
    with _ONE_AT_A_TIME:
        found = zxcvbn(bounded(password), user_inputs=[*_OURS, *own])  # type: ignore[no-untyped-call]
        # Several own words in a row count as strong there, since it takes a few tries to find each.
        alone = zxcvbn(bounded(rest))["score"] if rest != password else found["score"]  # type: ignore[no-untyped-call]
    if min(found["score"], alone) >= LEAST_SCORE:
        return None
    if alone < LEAST_SCORE <= found["score"] or any(
        match.get("dictionary_name") == "user_inputs" for match in found["sequence"]
    ):
        return "It is close to your name, your e-mail address or the name of this app."
    warning = str(found["feedback"]["warning"] or "").rstrip(".")
    return f"{warning}." if warning else ""


def bounded(password: str) -> str:
    """The password as it is looked at: cut, and with few disguises."""
    begin = password[:LOOKED_AT]
    kept = set(islice(dict.fromkeys(c for c in begin if c in _DISGUISES), MOST_DISGUISES))
    return "".join(_OTHER if c in _DISGUISES - kept else c for c in begin)


def _without(password: str, about: Iterable[str]) -> str:
    """What is left of the password without the words that everybody knows of its owner."""
    pieces = {piece for text in about for piece in _PIECE.findall(text[:LONGEST_TEXT].lower())}
    rest = password
    for piece in sorted(pieces, key=len, reverse=True)[:MOST_WORDS]:
        rest = re.sub(re.escape(piece), " ", rest, flags=re.IGNORECASE)
    return rest if rest == password else rest.strip() or "0"


def _words(text: str) -> list[str]:
    text = text[:LONGEST_TEXT].lower()
    words = _WORD.findall(text)
    return [text, "".join(words), *words]
