"""The check of an answer while it streams, without a fixed delay.

Text is held back only while its end may still become part of something that must not be shown: the body of a key
after its opening (`secrets`), or a trigger phrase after its context (`answers`). Everything else is released at once.
What is released is never taken back and never holds a match; on a match nothing from its beginning on is released,
and what comes after is dropped.

All that counts is the text so far, not how it was cut into pieces: the end of every match is found to the character.
So an answer that another process takes over is screened as if it had never changed hands. It does not know engines.
"""

from chat_app.safety import answers, secrets
from chat_app.safety.normal import fold, origin, plain
from chat_app.safety.rules import Pattern
from chat_app.safety.verdict import Category, Verdict, refused

_REACH = max(secrets.LONGEST_OPENING, answers.CONTEXT_REACH) + 2
"""Folded characters of released text that a decision may still depend on."""

_SUSPICIOUS = Pattern(f"{secrets.ANY_BEGUN.source}|(?i:{answers.ANY_BEGUN.source})")
"""One search for both, as every piece of every answer pays for it."""

_END = b"\n"
"""What follows the last word of a finished answer, so that it counts as whole."""


class OutputScreen:
    """Screens one answer. `released` is what an earlier owner has already shown of it."""

    def __init__(self, released: str = "") -> None:
        self.blocked: Verdict | None = None
        self._past = b""
        """End of the folded text that is decided, at most `_REACH`."""
        self._open = ""
        """The text from the earliest undecided place on, as the engine wrote it."""
        self._shown = 0
        """Characters of `_open` that were released already; only after a take-over more than none."""
        if released:
            self._advance(released)
            self._shown = len(self._open)

    def feed(self, text: str) -> str:
        """Take the next piece; returns what may be shown now. Empty for good once `blocked`."""
        if self.blocked is not None or not text:
            return ""
        return self._advance(text)

    def finish(self) -> str:
        """The answer is over: the rest that was held, unless it turns out to be a match."""
        if self.blocked is not None:
            return ""
        words = self._past + plain(fold(self._open)) + _END
        if self._found(words):
            return self._block(words)
        return self._release(len(self._open))

    def _advance(self, text: str) -> str:
        self._open += text
        words = self._past + plain(fold(self._open))
        undecided = None
        if self._is_suspicious(words):
            if self._found(words):
                return self._block(words)
            undecided = self._undecided(words)
        cut = len(words) if undecided is None else undecided
        released = len(self._open) if undecided is None else origin(self._open, cut - len(self._past))
        self._past = words[max(0, cut - _REACH) : cut]
        return self._release(released)

    def _release(self, cut: int) -> str:
        """Give away the open text up to `cut`, but for what was shown before."""
        out = self._open[self._shown : cut]
        self._open = self._open[cut:]
        self._shown = max(0, self._shown - cut)
        return out

    def _block(self, words: bytes) -> str:
        """Find where the first match ended, to the character, and release what was decided by then."""
        least, most = len(self._past), len(words)
        while least < most:
            middle = (least + most) // 2
            if self._found(words[:middle]):
                most = middle
            else:
                least = middle + 1
        words = words[:most]
        start, category, rule, what = min(self._found(words))
        undecided = self._undecided(words)
        cut = start if undecided is None else min(start, undecided)
        self.blocked = refused("output", category, rule, what)
        return self._release(origin(self._open, cut - len(self._past)))

    def _is_suspicious(self, words: bytes) -> bool:
        """A quick look that clears ordinary text: no key, no trigger, and no beginning of one at the end."""
        return _SUSPICIOUS.find(words, self._from(secrets.LONGEST_OPENING)) is not None

    def _found(self, words: bytes) -> list[tuple[int, Category, str, str]]:
        """Where matches begin, and what they are; one for each rule that matches."""
        found: list[tuple[int, Category, str, str]] = []
        start = self._from(secrets.LONGEST_OPENING)
        for finder in secrets.FINDERS if secrets.ANY_FULL.find(words, start) is not None else ():
            if (span := finder.find(words, start)) is not None:
                found.append((span[0], "secret", finder.secret.id, finder.secret.what))
        lower = words.lower()
        for trigger in answers.TRIGGERS:
            if (span := trigger.find(lower, len(self._past))) is not None:
                found.append((span[0], trigger.rule.category, trigger.rule.id, ""))
        return found

    def _undecided(self, words: bytes) -> int | None:
        """Where the earliest beginning of a possible match lies at the end of the text, if there is one."""
        start, lower = self._from(secrets.LONGEST_OPENING), words.lower()
        places: list[int | None] = []
        if secrets.ANY_BEGUN.find(words, start) is not None:
            places += [finder.begun(words, start) for finder in secrets.FINDERS]
        places += [trigger.begun(lower, len(self._past)) for trigger in answers.TRIGGERS]
        return min((place for place in places if place is not None), default=None)

    def _from(self, reach: int) -> int:
        """Where to look from, when what is looked for may begin up to `reach` characters before the open text."""
        return max(0, len(self._past) - reach)
