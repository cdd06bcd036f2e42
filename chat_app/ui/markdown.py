"""Cuts Markdown that is still being written into blocks that will not change any more, and a tail that may.

The page renders each finished block once; only the tail is sent and rendered again. A cut lies behind blank lines,
outside code fences and lists, so every block reads alone as it reads in the whole. It does not know HTML or the page.
"""

import re

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r"([-*+]|\d{1,9}[.)])([ \t]|$)")
_MAY_BECOME_ITEM = "-*+0123456789"


class Blocks:
    """`"".join(finished) + tail` is the text that was fed, however it was split."""

    def __init__(self, text: str = "") -> None:
        self.finished: list[str] = []
        self.tail = ""
        self._seen = 0  # everything in `tail` before it has been looked at
        self._gap = 0  # end of blank lines in `tail` behind which a cut may lie; 0 for none
        self._fence = ""  # the fence that is open
        self._in_list = False
        self._begun = False  # whether the block has more than blank lines
        self.feed(text)

    def feed(self, text: str) -> None:
        """Add text. Whole lines decide at once; the beginning of a line where it can be nothing else."""
        self.tail += text
        while (end := self.tail.find("\n", self._seen) + 1) > 0:
            self._look_at(self.tail[self._seen : end])
        self._peek(self.tail[self._seen :])

    def _look_at(self, line: str) -> None:
        if self._fence:
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
        elif not line.strip():
            if self._begun:
                self._gap = self._seen + len(line)
        else:
            if self._gap and not self._continues(line):
                self._cut()
            self._gap, self._begun = 0, True
            self._in_list = self._in_list or _ITEM.match(line) is not None
            if fence := _FENCE.match(line):
                self._fence = fence[1]
        self._seen += len(line)

    def _peek(self, beginning: str) -> None:
        known = bool(beginning) and not beginning[0].isspace()
        if self._gap and known and not (self._in_list and beginning[0] in _MAY_BECOME_ITEM):
            self._cut()

    def _continues(self, line: str) -> bool:
        return line[0].isspace() or (self._in_list and _ITEM.match(line) is not None)

    def _cut(self) -> None:
        self.finished.append(self.tail[: self._gap])
        self.tail = self.tail[self._gap :]
        self._seen -= self._gap
        self._gap, self._begun, self._in_list = 0, False, False


def blocks(text: str) -> list[str]:
    """A whole text as blocks, none of them empty."""
    cut = Blocks(text)
    return [*cut.finished, cut.tail] if cut.tail else cut.finished
