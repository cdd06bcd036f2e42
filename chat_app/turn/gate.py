"""What of an answer may be released: every piece through its check, as entries of the log.

Reasoning and text are checked as they come, calls at the end (`call_gate`). It does not know engines or stores.
"""

import time
from collections.abc import Collection

from chat_app.data.log.entries import Entry, clean
from chat_app.safety.review import excerpt
from chat_app.safety.screen import Screen
from chat_app.safety.verdict import Verdict
from chat_app.turn.call_gate import CallGate, Screens
from chat_app.turn.seal import BETWEEN
from inference.protocol import Chunk, ToolCall

CONTEXT = 2_000
"""Characters that stand in front of a text and that its check still sees."""


class OutputGate:
    """One model step's output. `text` and `reasoning` are what has been released of it, by earlier owners too.

    `earlier` is the text of the steps before: the first one here is kept apart from it by `BETWEEN`. It is all one
    answer to whoever reads it, so each check sees what stands in front: reasoning the earlier text, text both.
    `own` are the names of the caller's own tools, `built_in` those that run within the turn.
    """

    def __init__(
        self,
        screens: Screens,
        text: str,
        reasoning: str,
        earlier: str,
        own: Collection[str],
        built_in: Collection[str],
    ) -> None:
        self.text, self.reasoning = text, reasoning
        self._calls = CallGate(screens, own, built_in)
        self.seconds = 0.0
        """Time that the checks took."""
        self._screens = screens
        self._earlier = earlier[-CONTEXT:]
        self._thoughts = screens(self._behind(self._earlier, reasoning))
        self._text: Screen | None = None
        self._thinking_since: float | None = None

    @property
    def blocked(self) -> Verdict | None:
        """Why nothing more is released."""
        return self._calls.blocked or self._thoughts.blocked or (self._text.blocked if self._text else None)

    @property
    def excerpt(self) -> str:
        """For who reviews what is blocked, the end of what could be released of it: a call's arguments, the step's
        reasoning, or its text. Empty while nothing is blocked."""
        if self.blocked is None:
            return ""
        said = self.reasoning if self._thoughts.blocked is not None else self.text
        said = said if self._calls.blocked is None else self._calls.refused_arguments
        return excerpt(said, len(said), len(said))

    @property
    def anything(self) -> bool:
        """Whether the step has delivered anything at all."""
        return bool(self.text or self.reasoning or self._calls.entries)

    async def take(self, chunk: Chunk) -> list[Entry]:
        """What may be released once this chunk has come."""
        began = time.perf_counter()
        entries: list[Entry] = []
        if chunk.reasoning:
            self._thinking_since = self._thinking_since or began
            entries += self._thought(await self._thoughts.feed(clean(chunk.reasoning)))
        if chunk.text and self.blocked is None:
            if self._thinking_since is not None or self.reasoning:
                entries += self._thought(await self._thoughts.finish()) + self._thought_for()
            entries += self._said(await self._text_screen().feed(clean(chunk.text)))
        self.seconds += time.perf_counter() - began
        return entries

    async def close(self, calls: Collection[ToolCall], taken: Collection[str] = ()) -> list[Entry]:
        """The answer is over: what the checks still held, and the calls that the model asks for.

        They go out to the caller if all of them are of its own tools; else all of them get their results within the
        turn, and `built_in` of their entries is true. Some engines count calls anew in every answer: a call whose id
        is among those that are `taken` gets another.
        """
        began = time.perf_counter()
        entries: list[Entry] = []
        if self.blocked is None:
            entries += self._thought(await self._thoughts.finish()) + self._thought_for()
        if self.blocked is None:
            entries += self._said(await self._text_screen().finish())
        if self.blocked is None:
            await self._calls.check(calls, taken)
        self.seconds += time.perf_counter() - began
        return entries + self._calls.entries

    def _text_screen(self) -> Screen:
        """Made when the first text comes: its check begins behind the reasoning."""
        if self._text is None:
            shown = self._behind(self._earlier, self.reasoning[-CONTEXT:])
            self._text = self._screens(self._behind(shown, self.text))
        return self._text

    @staticmethod
    def _behind(earlier: str, text: str) -> str:
        return f"{earlier}{BETWEEN}{text}" if earlier else text

    def _thought(self, text: str) -> list[Entry]:
        self.reasoning += text
        return [Entry("reasoning", text)] if text else []

    def _thought_for(self) -> list[Entry]:
        """How long this owner saw it think, for whoever looks: once, behind the reasoning."""
        if (since := self._thinking_since) is None:
            return []
        self._thinking_since = None
        return [Entry("status", data={"thought_ms": round((time.perf_counter() - since) * 1000)})]

    def _said(self, text: str) -> list[Entry]:
        if not text:
            return []
        before = BETWEEN if self._earlier and not self.text else ""
        self.text += text
        return [Entry("text", before + text)]
