"""What of a model's calls may be released: all of an answer's calls, or none.

A call's arguments are checked as a whole, as they are meant: without the escapes of JSON. Of its name only one that was
offered gets out, of its id only one that looks like an id: else a model could write there whatever it may not say.
"""

import re
from collections.abc import Callable, Collection

from chat_app.data.ids import new_id
from chat_app.data.log.entries import Entry, clean
from chat_app.safety.escapes import unescaped
from chat_app.safety.screen import Screen
from chat_app.safety.verdict import Verdict
from inference.protocol import ToolCall

MOST_CALLS = 128
"""That one answer may ask for, and one message of a prompt may have."""
UNKNOWN = "unknown_tool"
"""Stands for the name of a tool that was not offered."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Screens = Callable[[str], Screen]
"""Makes the check of an answer whose beginning, this text, was released already."""


class CallGate:
    """`own` are the names of the caller's own tools, `built_in` those that run within the turn."""

    def __init__(self, screens: Screens, own: Collection[str], built_in: Collection[str]) -> None:
        self._screens = screens
        self._own, self._built_in = own, built_in
        self.entries: list[Entry] = []
        """The calls, once all of them were found to be released."""
        self.blocked: Verdict | None = None
        """Why none is released."""
        self.refused_arguments = ""
        """What could be released of the arguments that are to blame."""

    async def check(self, calls: Collection[ToolCall], taken: Collection[str]) -> None:
        """The calls of an answer that is over; one whose id is among those that are `taken` gets another."""
        entries: list[Entry] = []
        within = any(call.name not in self._own for call in calls)
        for call in calls:
            arguments = clean(call.arguments)
            released, self.blocked = await self._checked(unescaped(arguments))
            if self.blocked is not None:
                self.refused_arguments = released
                return
            id = await self._id(call.id, {*taken, *(entry.data["id"] for entry in entries)})
            name = call.name if call.name in self._own or call.name in self._built_in else UNKNOWN
            data = {"id": id, "name": name, "arguments": arguments, "built_in": within}
            entries.append(Entry("tool_call", data=data))
        self.entries = entries

    async def _id(self, id: str, taken: Collection[str]) -> str:
        if id and _ID.fullmatch(id) and id not in taken and (await self._checked(id))[0] == id:
            return id
        return f"call_{new_id()}"

    async def _checked(self, text: str) -> tuple[str, Verdict | None]:
        """What may be released of a whole text, and why not all of it."""
        screen = self._screens("")
        return await screen.feed(text) + await screen.finish(), screen.blocked
