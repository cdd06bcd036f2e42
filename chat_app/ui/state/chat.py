"""The chat page: the thread that is shown, beside the others (`sidebar`).

Its messages are one list, sent when it changes. The last answer is apart from them (`live`), so that a token does not
cost the list; a new question moves it there.
"""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

import asyncio
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.identity import Identity
from chat_app.sessions.generations import NotFound
from chat_app.turn import Started, TurnError
from chat_app.turn.engine import offered, warm
from chat_app.turn.texts import readable
from chat_app.ui import words
from chat_app.ui.state.entry import Entry, ThreadGroup, entry
from chat_app.ui.state.live import Live, plan_names
from chat_app.ui.state.open_pages import open_pages
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

WINDOW = 40
LOOK_S = 0.5
"""Between two looks at the state of our own engine, while a page is open."""

ACCEPTED = rx.call_function("window.parley?.accepted")
GIVE_BACK = rx.call_function("window.parley?.giveBack")
"""The composer keeps what was sent until it hears one of these."""


class Chat(Live, Visitor):
    """What the chat page shows."""

    messages: list[Entry] = []
    has_earlier: bool = False
    models: list[str] = []
    model: str = ""
    """The person's choice; empty until models are known."""
    most_chars: int = 0
    """Of a question; 0 until the page knows."""
    trouble: str = ""
    """Why the last question was not taken."""
    loading: str = ""
    """The chosen model, while it is loaded."""
    engine: str = "ready"
    engine_error: str = ""
    _moving_to: str = ""
    """Socket and thread that this page is being redirected to."""

    # Opening -------------------------------------------------------------------------------------------------------

    @rx.event
    async def open(self) -> EventSpec | list[Any] | None:
        """The address changed or the page (re)connected: show what it names, from the database."""
        section, _, thread_id = self.router.url.path.strip("/").partition("/")
        expected, self._moving_to = self._moving_to, ""
        if expected == f"{self.router.session.session_id} {thread_id}" and self.shown_id == thread_id:
            # We went there ourselves, over this very socket, with everything shown already. But Reflex has ended what
            # the page before had begun on opening.
            return Chat.watch_engine
        who = await self._enter()
        if who is None:
            return self._to_sign_in()
        self.most_chars = parley().settings.max_input_chars
        self.missing = section not in ("", "c")
        await self._load(who, thread_id if section == "c" else "")
        await self._load_threads(who)
        return [Chat.watch_engine, *([Chat.follow, Chat.watch_queue] if self.live.running else [])]

    @rx.event
    async def leave(self) -> None:
        """Another page is shown, with the list of threads beside it."""
        who = await self._identity()
        if who is not None:
            await self._load(who, "")
            await self._load_threads(who)

    @rx.event
    async def load_earlier(self) -> None:
        """Show more of a long thread's beginning."""
        who = await self._present()
        if who is None or not self.messages or not self.has_earlier:
            return
        try:
            view = await parley().threads.open(who, self.shown_id, WINDOW, before=self.messages[0].id)
        except NotFound:
            self.missing = True
            return
        names = await plan_names()
        self.messages = [*(entry(message, names) for message in view.messages), *self.messages]
        self.has_earlier = view.has_earlier

    # Asking --------------------------------------------------------------------------------------------------------

    @rx.event
    async def send(self, form: dict[str, Any]) -> EventSpec | list[Any]:
        """Ask the question in the composer; it gets its text back if it could not be asked."""
        text = text_of(form, "text")
        who = await self._present()
        if who is None or self.live.running:
            return GIVE_BACK
        self.trouble = ""
        try:
            started = await parley().turns.say(
                who, text, self.shown_id or None, self.model, parent_id=self._last_id() or None
            )
        except TurnError as error:
            self.trouble = error.message
            self.missing = error.code == "not_found"
            return GIVE_BACK
        if started.branched:
            self.notice = words.BRANCHED
        if self.live.id:
            self.messages.append(self._kept_live())
        self.messages.append(Entry(started.question_id or "", "user", started.question))
        whole = started.question == readable(text, len(text))  # Else it is nowhere but in the composer.
        return [ACCEPTED if whole else GIVE_BACK, *self._begin(started)]

    @rx.event
    async def regenerate(self) -> list[Any]:
        """Answer the last question anew."""
        who = await self._present()
        if who is None or self.live.running or not self.live.id:
            return []
        self.trouble = ""
        try:
            started = await parley().turns.regenerate(who, self.live.id, self.model)
        except TurnError as error:
            self.trouble = error.message
            self.missing = error.code == "not_found"
            return []
        return self._begin(started)

    @rx.event
    async def stop(self) -> None:
        """Stop the running answer; what was written stays."""
        who = await self._present()
        if who is None or not self.live.running:
            return
        try:
            await parley().turns.stop(who, self.live.generation_id)
        except TurnError as error:
            self.trouble = error.message

    @rx.event
    async def choose_model(self, model: str) -> EventSpec | None:
        """Answer with this model from now on."""
        if await self._present() is None or model not in self.models:
            return None
        self.model, self.trouble = model, ""
        return Chat.warm_model

    @rx.event(background=True)
    async def warm_model(self) -> None:
        """Have the chosen model loaded before it is asked; say so if that takes a while, and why if it fails."""
        if await self._identity() is None:
            return
        model = self.model
        warming = asyncio.create_task(warm(parley().engine, model))
        if not (await asyncio.wait({warming}, timeout=0.1))[0]:
            async with self:
                self.loading = model
        trouble = await warming
        async with self:
            if self.loading == model:
                self.loading = ""
            if self.model == model and trouble:
                self.trouble = trouble

    # The engine ---------------------------------------------------------------------------------------------------

    @rx.event(background=True)
    async def watch_engine(self) -> None:
        """Say when the engine that this process supervises is starting or restarting; offer its models once it runs."""
        if (who := await self._identity()) is None:
            return
        turn = open_pages.take(self.router.session.client_token, "watch")
        supervisor, last, listed = parley().supervisor, "", False
        while open_pages.has(turn):
            now = supervisor.state if supervisor else "ready"
            if now != last:
                last = now
                async with self:
                    self.engine = now
                    self.engine_error = supervisor.error if supervisor and who.is_staff else ""
            if now == "ready" and not listed and (names := await offered(parley().engine)):
                listed = True
                async with self:
                    self._offer(names)
            await asyncio.sleep(LOOK_S)
        open_pages.leave(turn)

    # Parts of the above --------------------------------------------------------------------------------------------

    async def _load(self, who: Identity, thread_id: str) -> None:
        open_pages.cancel(self.router.session.client_token, "follow")
        followed = self.live.generation_id
        seen = self.parts, self.thought, self.finished, self.tail, self.silent
        self.shown_id = self.trouble = self.dialog = ""
        self.messages, self.has_earlier = [], False
        self._show_last(Entry())
        if not thread_id:
            return
        try:
            view = await parley().threads.open(who, thread_id, WINDOW)
        except NotFound:
            self.missing = True
            return
        self.shown_id, self.has_earlier = thread_id, view.has_earlier
        names = await plan_names()
        messages = [entry(message, names) for message in view.messages]
        self.model = view.model or self.model
        self._offer(self.models)
        if messages and messages[-1].role == "assistant":
            self._show_last(messages.pop())
            if self.live.running and self.live.generation_id == followed:  # It only reconnected: no need to blink.
                self.parts, self.thought, self.finished, self.tail, self.silent = seen
        self.messages = messages

    def _offer(self, names: list[str]) -> None:
        self.models = names
        default = parley().settings.default_model
        if names and self.model not in names:
            self.model = default if default in names else names[0]

    def _last_id(self) -> str:
        """The last message that is shown: what the next question continues."""
        return self.live.id or (self.messages[-1].id if self.messages else "")

    def _begin(self, started: Started) -> list[Any]:
        """Show the place of the coming answer, and what has to happen for it."""
        self._show_last(Entry(started.answer_id or "", status="queued", generation_id=started.generation_id))
        thread_id = started.thread_id or ""
        first = self.groups[0] if self.groups else ThreadGroup()
        newest = first.label == words.TODAY and first.threads[0].id == thread_id
        events: list[Any] = [Chat.follow, Chat.watch_queue, *([] if newest else [Chat.refresh_threads])]
        if self.shown_id == thread_id:
            return events
        self.shown_id, self._moving_to = thread_id, f"{self.router.session.session_id} {thread_id}"
        return [rx.redirect(f"/c/{thread_id}", replace=True), *events]
