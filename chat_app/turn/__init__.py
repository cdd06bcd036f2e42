"""A chat turn, start to finish. `work.py` is the page to read first.

A person in the browser (`say`, `regenerate`) and a program with a key (`call`) go through the same eight stages. 1 to 5
happen while the caller waits; then the turn is a durable job that any process can pick up (stages 6 to 8), and whoever
wants to see the answer tails the generation log.

The files compose the rooms and know none of their tables; what has to be true together is committed in one batch.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from chat_app.accounts.grant import Grant
from chat_app.accounts.identity import Identity
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.ids import new_id
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.prompts.window import most_chars
from chat_app.sessions.generations import Generations, NotFound
from chat_app.sessions.threads import Exchange, History, Threads
from chat_app.settings import Settings
from chat_app.turn.admit import Place
from chat_app.turn.ask import Ask, Started, TurnError, chat_gone
from chat_app.turn.begin import TurnStarter
from chat_app.turn.prepare import Preparation
from chat_app.turn.program import asked
from chat_app.turn.texts import readable
from inference.protocol import Message, Sampling, Tool

__all__ = ["Ask", "Started", "TurnError", "Turns"]


class Turns:
    """Every turn that this process begins."""

    def __init__(
        self,
        settings: Settings,
        log: GenerationLog,
        threads: Threads,
        generations: Generations,
        preparation: Preparation,
        beginning: TurnStarter,
    ) -> None:
        self._settings = settings
        self._log = log
        self._threads = threads
        self._generations = generations
        self._preparation = preparation
        self._beginning = beginning
        self._begin = beginning.begin

    async def say(
        self,
        identity: Identity,
        text: str,
        thread_id: str | None = None,
        model: str = "",
        parent_id: str | None = None,
    ) -> Started:
        """A person says something, in a new thread if none is named, behind `parent_id` or the end of what is shown."""
        text = readable(text, self._settings.max_input_chars)
        question = Message("user", text)
        exchange = Exchange(thread_id or new_id(), new_id(), parent_id, new_id(), text, thread_id is None)
        if thread_id is None:
            return await self._begin(Ask(identity, "chat", (question,), model, exchange=exchange))
        try:
            head, kept_model = await self._threads.head(identity, thread_id)
            exchange = replace(exchange, parent_id=parent_id or head)
            history = await self._history(identity, exchange.parent_id, model or kept_model)
        except NotFound as error:
            raise chat_gone() from error
        ask = Ask(identity, "chat", (question,), model or kept_model, exchange=exchange, seen_head=head)
        started = await self._begin(ask.behind(history))
        return replace(started, branched=started.branched or exchange.parent_id != head)

    async def regenerate(self, identity: Identity, answer_id: str, model: str = "") -> Started:
        """Answer an old question anew, beside the old answer."""
        try:
            thread_id, question_id = await self._threads.answer(identity, answer_id)
            head, kept_model = await self._threads.head(identity, thread_id)
            history = await self._history(identity, question_id, model or kept_model)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist any more.", 404) from error
        exchange = Exchange(thread_id, new_id(), question_id)
        ask = Ask(identity, "chat", (), model or kept_model, exchange=exchange, seen_head=head)
        return await self._begin(ask.behind(history))

    async def call(
        self,
        identity: Identity,
        messages: Sequence[Message],
        model: str = "",
        sampling: Sampling | None = None,
        *,
        tools: Sequence[Tool] = (),
        tool_choice: str = "auto",
        built_in: Sequence[str] = (),
        detached: bool = False,
    ) -> Started:
        """A program sends a whole conversation; no thread is kept. A caller that goes away meanwhile stops it, unless
        it is `detached`."""
        ask = asked(
            identity,
            messages,
            model,
            sampling,
            most=self._settings.max_input_chars,
            tools=tools,
            tool_choice=tool_choice,
            built_in=built_in,
            detached=detached,
        )
        return await self._begin(ask)

    async def admit(self, grant: Grant) -> Place:
        """A place for a program's call, before anybody reads what it wants. `async with` it. Raises `TurnError`,
        `DatabaseUnavailable`, `LimitsUnavailable`."""
        return await self._beginning.admit(grant.identity, "api", grant)

    async def begin(self, ask: Ask, place: Place) -> Started:
        """A program's call that was admitted and read (`program.asked`). Raises `TurnError`."""
        return await self._beginning.begin(ask, place)

    async def stop(self, identity: Identity, generation_id: str) -> None:
        """Stop an answer wherever it is being written; what was delivered stays and is settled."""
        try:
            view = await self._generations.view(identity, generation_id)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist.", 404) from error
        if not view.ended:
            await self._log.request_stop(generation_id)

    async def delete(self, identity: Identity, thread_id: str, *, address: str = "") -> None:
        """Delete a thread; answers that are being written in it are stopped. Raises `NotFound`, `DatabaseUnavailable`.

        A stop that cannot be posted now is no error: the answer's owner looks for it with its next heartbeat.
        """
        await self._threads.delete(identity, thread_id, address=address)
        with suppress(DatabaseUnavailable, LogUnavailable):
            for generation_id in await self._generations.active_in(thread_id):
                await self._log.request_stop(generation_id)

    async def _history(self, identity: Identity, message_id: str | None, wanted: str) -> History:
        """As much of a thread as is worth reading: what the largest window that is offered can hold."""
        context = await self._preparation.largest_context(wanted)
        return await self._threads.history(identity, message_id, most_chars(context))
