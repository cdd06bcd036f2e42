"""What of an answer may be released: every piece through its check, as entries of the log.

Reasoning and text are checked each for itself, a call's arguments as a whole. Of a call's name only one that was
offered gets out, of its id only one that looks like an id: else a model could write there whatever it may not say.
It does not know engines or stores.
"""

import re
import time
from collections.abc import Callable, Collection

from chat_app.data.ids import new_id
from chat_app.data.log.entries import Entry, clean
from chat_app.safety.review import excerpt
from chat_app.safety.screen import Screen
from chat_app.safety.verdict import Verdict
from inference.protocol import Chunk, ToolCall

MOST_CALLS = 128
"""That one answer may ask for, and one message of a prompt may have."""
UNKNOWN = "unknown_tool"
"""Stands for the name of a tool that was not offered."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Screens = Callable[[str], Screen]
"""Makes the check of an answer whose beginning, this text, was released already."""


class OutputGate:
    """One model step's output. `text` and `reasoning` are what has been released of it, by earlier owners too.

    `before` is put in front of the first text, to keep it apart from an earlier step's. `own` are the names of the
    caller's own tools, `built_in` those that run within the turn.
    """

    def __init__(
        self,
        screens: Screens,
        text: str,
        reasoning: str,
        before: str,
        own: Collection[str],
        built_in: Collection[str],
    ) -> None:
        self.text, self.reasoning = text, reasoning
        self.calls: list[Entry] = []
        self.seconds = 0.0
        """Time that the checks took."""
        self._screens = screens
        self._text, self._thoughts = screens(text), screens(reasoning)
        self._before = before
        self._own, self._built_in = own, built_in
        self._refused: Verdict | None = None
        self._refused_arguments = ""
        self._thinking_since: float | None = None

    @property
    def blocked(self) -> Verdict | None:
        """Why nothing more is released."""
        return self._refused or self._thoughts.blocked or self._text.blocked

    @property
    def excerpt(self) -> str:
        """For who reviews what is blocked, the end of what could be released of it: a call's arguments, the step's
        reasoning, or its text. Empty while nothing is blocked."""
        if self.blocked is None:
            return ""
        said = self.reasoning if self._thoughts.blocked is not None else self.text
        said = said if self._refused is None else self._refused_arguments
        return excerpt(said, len(said), len(said))

    @property
    def anything(self) -> bool:
        """Whether the step has delivered anything at all."""
        return bool(self.text or self.reasoning or self.calls)

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
            entries += self._said(await self._text.feed(clean(chunk.text)))
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
            entries += self._said(await self._text.finish())
        within = any(call.name not in self._own for call in calls)
        for call in calls:
            if self.blocked is None:
                await self._call(call, taken, within)
        if self.blocked is not None:
            self.calls = []
        self.seconds += time.perf_counter() - began
        return entries + self.calls

    async def _call(self, call: ToolCall, taken: Collection[str], within: bool) -> None:
        arguments, self._refused = await self._checked(clean(call.arguments))
        if self._refused is not None:
            self._refused_arguments = arguments
            return
        id, _ = await self._checked(call.id) if _ID.fullmatch(call.id) else ("", None)
        if id != call.id or not id or id in taken or any(id == other.data["id"] for other in self.calls):
            id = f"call_{new_id()}"
        name = call.name if call.name in self._own or call.name in self._built_in else UNKNOWN
        self.calls.append(Entry("tool_call", data={"id": id, "name": name, "arguments": arguments, "built_in": within}))

    async def _checked(self, text: str) -> tuple[str, Verdict | None]:
        """What may be released of a whole text, and why not all of it."""
        screen = self._screens("")
        return await screen.feed(text) + await screen.finish(), screen.blocked

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
        before = "" if self.text else self._before
        self.text += text
        return [Entry("text", before + text)]
