"""The last answer of the thread that is shown: followed in the generation log while it is written.

What a token costs is one frame with the open end of the answer: the tail of its text, or of its reasoning. Everything
before that is in lists, which are sent when they change.
"""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

import asyncio
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace

import reflex as rx

from chat_app.accounts.identity import Identity
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.log.base import LogUnavailable
from chat_app.sessions.generations import GenerationView, NotFound
from chat_app.sessions.viewer import Gone
from chat_app.ui import words
from chat_app.ui.frames import frames
from chat_app.ui.parts import Part, Parts
from chat_app.ui.state.entry import GONE, RUNNING, Entry, facts, shown, spoken, why_short
from chat_app.ui.state.open_pages import Turn, open_pages
from chat_app.ui.state.sidebar import Sidebar
from chat_app.wiring import parley

RETRY_S = 1.0
"""Until a page looks again for its answer when the stores could not be read."""
ASK_AGAIN_S = 2.0
"""How often a page that follows an answer asks whether its person is still signed in."""
LOOK_S = 0.5
"""Between two looks at an answer's position in its queue."""


class Live(Sidebar, mixin=True):
    """A part of the state `Chat`."""

    live: Entry = Entry()
    """The last answer, while it is written and until the next question. Its parts are beside it."""
    parts: list[Part] = []
    """What lies before the open text."""
    thought: str = ""
    """The end of the reasoning that is running; its beginning is in the last part."""
    finished: list[str] = []
    tail: str = ""
    silent: bool = True
    """Nothing of what is shown is growing now."""
    waiting: str = ""
    """The answer's position in the engine's queue."""

    @rx.event(background=True)
    async def follow(self) -> None:
        """Show the running answer as it is written. One at a time per page; ends with the page or its session."""
        turn = open_pages.take(self.router.session.client_token, "follow")
        try:
            while open_pages.has(turn):
                try:
                    return await self._follow(turn, self.live.generation_id)
                except (DatabaseUnavailable, LogUnavailable):
                    await asyncio.sleep(RETRY_S)
        finally:
            open_pages.leave(turn)

    async def _follow(self, turn: Turn, generation_id: str) -> None:
        who, read, asked = await self._identity(), Parts(), _now()
        if who is None or (view := await _view(who, generation_id)) is None:
            return
        updates = parley().viewer.follow(generation_id, begun=not view.ended)
        try:
            async with aclosing(frames(updates, lambda: read.open_chars)) as coming:
                async for frame in coming:
                    read.feed(frame.entries)
                    if _now() - asked > ASK_AGAIN_S:
                        who, asked = await self._identity(), _now()
                    if not open_pages.has(turn):
                        return
                    ended = await _ended(who, generation_id, frame.end) if who and frame.end else None
                    async with self:
                        if self.live.generation_id != generation_id:
                            return
                        if who is None:
                            self._say_gone()
                            return
                        self._show(read, ended)
                        if ended and ended.status != "done":
                            await self._look_for_thread(who)
        except Gone as gone:
            ended = await _ended(who, generation_id, GONE) if who else None
            async with self:
                if ended and self.live.generation_id == generation_id:
                    self._show(read, replace(ended, status=GONE, error=str(gone)))

    @rx.event(background=True)
    async def watch_queue(self) -> None:
        """Show the answer's position in the engine's queue, from a moment after it was asked for until its turn."""
        generation_id, last, looks = self.live.generation_id, "", 0
        turn = open_pages.take(self.router.session.client_token, "queue")
        while open_pages.has(turn) and (last or looks < 4):
            looks += 1
            place = await parley().queue.position(generation_id)
            now = words.queue_position(place.position, place.eta_s) if place else ""
            if now != last:
                last = now
                async with self:
                    if self.live.generation_id != generation_id:
                        break
                    self.waiting = now
            await asyncio.sleep(LOOK_S)
        open_pages.leave(turn)

    def _show(self, read: Parts, ended: Entry | None) -> None:
        if ended is not None:
            read.end()
        # What is assigned is sent, whether it differs or not.
        if self.parts != read.whole:
            self.parts = list(read.whole)
        if self.thought != read.thought:
            self.thought = read.thought
        if len(self.finished) != len(read.text.finished):
            self.finished = list(read.text.finished)
        if self.tail != read.text.tail:
            self.tail = read.text.tail
        if self.silent != read.silent:
            self.silent = read.silent
        if ended is not None:
            self.live = spoken(ended, read.all())
        elif self.live.status == "queued":
            self.live.status = "streaming"

    def _show_last(self, answer: Entry) -> None:
        """Show the place of an answer that comes, or one that has ended."""
        self.live, self.parts = replace(answer, parts=[]), answer.parts
        self.finished, self.tail, self.thought = [], "", ""
        self.waiting, self.silent = "", True

    def _kept_live(self) -> Entry:
        """The last answer as a message among the others."""
        return shown(deepcopy(self.live), deepcopy(self.parts), self.finished, self.tail)

    async def _look_for_thread(self, who: Identity) -> None:
        """An answer that did not end by itself may have been stopped because its chat was deleted elsewhere."""
        try:
            await parley().threads.open(who, self.shown_id, 1)
        except NotFound:
            self.missing = True
            await self._load_threads(who)


async def _view(who: Identity, generation_id: str) -> GenerationView | None:
    """The answer as its row has it; None for another person's, or if its chat has been deleted."""
    try:
        return await parley().generations.view(who, generation_id)
    except NotFound:
        return None


async def _ended(who: Identity, generation_id: str, end: str) -> Entry:
    """The answer, without its parts, once its last text is here; of a deleted chat only that it has ended."""
    if (view := await _view(who, generation_id)) is None:
        return Entry("", status=end, generation_id=generation_id)
    return Entry(
        view.message_id or "",
        status=end if view.status in RUNNING else view.status,
        error=why_short(view.error, view.receipt),
        receipt=facts(words.receipt_lines(view.receipt, await plan_names())),
        steps=facts(words.step_lines(view.receipt)),
        generation_id=view.id,
    )


async def plan_names() -> dict[str, str]:
    """Every plan's name by its id, of archived ones too."""
    return {terms.id: terms.name for terms in await parley().plans.all(archived=True)}


def _now() -> float:
    return asyncio.get_running_loop().time()
