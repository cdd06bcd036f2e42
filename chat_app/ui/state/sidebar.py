"""The list of a person's threads beside the chat, and the dialogs that rename and delete one."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from contextlib import suppress
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.identity import Identity
from chat_app.sessions.generations import NotFound
from chat_app.ui import words
from chat_app.ui.state.entry import ThreadGroup, grouped
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

THREADS = 100
"""How many are listed at first, and how many more each time somebody wants older ones."""


class Sidebar(Visitor, mixin=True):
    """A part of the state `Chat`."""

    groups: list[ThreadGroup] = []
    has_older: bool = False
    shown_id: str = ""
    """The thread that is shown; empty for a new chat."""
    missing: bool = False
    """The address names no thread of this person, or one that was deleted meanwhile."""
    dialog: str = ""
    dialog_id: str = ""
    dialog_title: str = ""
    _listed: int = THREADS

    @rx.event
    def ask_rename(self, thread_id: str, title: str) -> None:
        """Open the dialog that renames a thread."""
        self.dialog, self.dialog_id, self.dialog_title = "rename", thread_id, title

    @rx.event
    def ask_delete(self, thread_id: str, title: str) -> None:
        """Open the dialog that deletes a thread."""
        self.dialog, self.dialog_id, self.dialog_title = "delete", thread_id, title

    @rx.event
    def close_dialog(self) -> None:
        """Do neither."""
        self.dialog = ""

    @rx.event
    async def rename(self, form: dict[str, Any]) -> None:
        """Rename the thread of the dialog."""
        self.dialog = ""
        who = await self._present()
        if who is None:
            return
        try:
            await parley().threads.rename(who, self.dialog_id, text_of(form, "title"))
        except NotFound:
            self.notice = words.DELETED
        await self._load_threads(who)

    @rx.event
    async def delete(self) -> EventSpec | None:
        """Delete the thread of the dialog; a new chat takes its place if it was shown."""
        self.dialog = ""
        who = await self._present()
        if who is None:
            return None
        with suppress(NotFound):  # Deleted is deleted, whoever did it.
            await parley().turns.delete(who, self.dialog_id, address=self._network_address())
        await self._load_threads(who)
        return rx.redirect("/") if self.dialog_id == self.shown_id else None

    @rx.event
    async def refresh_threads(self) -> None:
        """Read the list of threads anew."""
        who = await self._present()
        if who is not None:
            await self._load_threads(who)

    @rx.event
    async def list_older(self) -> None:
        """List more threads, older ones."""
        who = await self._present()
        if who is not None and self.has_older:
            self._listed += THREADS
            await self._load_threads(who)

    async def _load_threads(self, who: Identity) -> None:
        lines = await parley().threads.recent(who, self._listed + 1)
        self.has_older = len(lines) > self._listed
        self.groups = grouped(lines[: self._listed], self._zone())
