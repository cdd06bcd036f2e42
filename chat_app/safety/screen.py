"""How an answer is checked while it streams: the protocol of every check, and the rules as one.

A check may take its time and may run wherever it likes (a thread, another process): the turn waits for it before it
releases anything, and reads no further meanwhile.
"""

from typing import Protocol

from chat_app.safety.output import OutputScreen
from chat_app.safety.verdict import Verdict


class Screen(Protocol):
    """The check of one answer. What `feed` and `finish` return has passed and may be shown, in order."""

    @property
    def blocked(self) -> Verdict | None:
        """Why nothing more may be shown; None while all is well."""
        ...

    async def feed(self, text: str) -> str:
        """Take the next piece; return what may be shown now."""
        ...

    async def finish(self) -> str:
        """The answer is over: return the rest that may be shown. A second call returns nothing."""
        ...


class RuleScreen:
    """The rules of `output`, which need microseconds and so run where they are called. `released` is what an earlier
    owner has already shown."""

    def __init__(self, released: str = "") -> None:
        self._rules = OutputScreen(released=released)

    @property
    def blocked(self) -> Verdict | None:
        return self._rules.blocked

    async def feed(self, text: str) -> str:
        return self._rules.feed(text)

    async def finish(self) -> str:
        return self._rules.finish()
