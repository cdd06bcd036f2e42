"""A chat turn, start to finish. `work.py` is the page to read first.

A person in the browser (`say`, `regenerate`) and a program with a key (`call`) take the same eight steps. Steps 1 to 5
happen while the caller waits; then the turn is a durable job that any process can pick up (steps 6 to 8), and whoever
wants to see the answer tails the generation log.

The files compose the rooms and know none of their tables; what has to be true together is committed in one batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import period_of
from chat_app.billing.plans import Plans, Terms
from chat_app.data.db.base import DatabaseUnavailable, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.prompts.window import most_chars
from chat_app.safety.verdict import Verdict
from chat_app.sessions.generations import GenerationRow, Generations, NotFound
from chat_app.sessions.ownership import Ownership
from chat_app.sessions.threads import Exchange, History, Threads
from chat_app.settings import Settings
from chat_app.turn.admit import Admission
from chat_app.turn.ask import Ask, Started, TurnError, bounded, readable
from chat_app.turn.hold import Hold
from chat_app.turn.job import Job
from chat_app.turn.prepare import Preparation
from chat_app.turn.settle import Settlement
from inference.protocol import Message, Sampling, Tool

__all__ = ["Ask", "Started", "TurnError", "Turns"]

logger = structlog.get_logger(__name__)


class Turns:
    """Every turn that this process begins."""

    def __init__(
        self,
        settings: Settings,
        log: GenerationLog,
        plans: Plans,
        threads: Threads,
        generations: Generations,
        ownership: Ownership,
        admission: Admission,
        preparation: Preparation,
        hold: Hold,
        settlement: Settlement,
        begun: Callable[[Job], None],
    ) -> None:
        self._settings = settings
        self._log = log
        self._plans = plans
        self._threads = threads
        self._generations = generations
        self._ownership = ownership
        self._admission = admission
        self._preparation = preparation
        self._hold = hold
        self._settlement = settlement
        self._begun_here = begun

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
            history = await self._threads.history(identity, exchange.parent_id, self._most_chars)
        except NotFound as error:
            raise TurnError("not_found", "This chat does not exist any more.", 404) from error
        ask = Ask(identity, "chat", (question,), model or kept_model, exchange=exchange, seen_head=head)
        started = await self._begin(_behind(ask, history))
        return replace(started, branched=started.branched or exchange.parent_id != head)

    async def regenerate(self, identity: Identity, answer_id: str, model: str = "") -> Started:
        """Answer an old question anew, beside the old answer."""
        try:
            thread_id, question_id, _ = await self._threads.answer(identity, answer_id)
            head, kept_model = await self._threads.head(identity, thread_id)
            history = await self._threads.history(identity, question_id, self._most_chars)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist any more.", 404) from error
        exchange = Exchange(thread_id, new_id(), question_id)
        ask = Ask(identity, "chat", (), model or kept_model, exchange=exchange, seen_head=head)
        return await self._begin(_behind(ask, history))

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
    ) -> Started:
        """A program sends a whole conversation; no thread is kept. A caller that goes away meanwhile stops it."""
        if not messages:
            raise TurnError("bad_input", "messages must hold at least one message.")
        most = self._settings.max_input_chars
        said = tuple(
            replace(message, content=(readable if message.role == "user" else bounded)(message.content, most))
            for message in messages
        )
        ask = Ask(identity, "api", said, model, sampling, tools=tuple(tools), tool_choice=tool_choice)
        return await self._begin(replace(ask, built_in=tuple(built_in)))

    async def stop(self, identity: Identity, generation_id: str) -> None:
        """Stop an answer wherever it is being written; what was delivered stays and is settled."""
        try:
            view = await self._generations.view(identity, generation_id)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist.", 404) from error
        if not view.ended:
            await self._log.request_stop(generation_id)

    async def delete(self, identity: Identity, thread_id: str) -> None:
        """Delete a thread; answers that are being written in it are stopped. Raises `NotFound`."""
        await self._threads.delete(identity, thread_id)
        for generation_id in await self._generations.active_in(thread_id):
            await self._log.request_stop(generation_id)

    async def _begin(self, ask: Ask) -> Started:
        beginning = asyncio.ensure_future(self._begun(ask))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            if ask.source == "api":  # A person's answer goes on without its page; a program reads nothing any more.
                beginning.add_done_callback(self._stop_unseen)
            raise
        except (DatabaseUnavailable, LogUnavailable, LeasesUnavailable, LimitsUnavailable) as error:
            logger.warning("storage unavailable", error=str(error))
            raise TurnError(
                "storage_unavailable",
                "Parley cannot store anything right now. Nothing was sent or charged.",
                503,
                5,
            ) from error

    async def _begun(self, ask: Ask) -> Started:
        """Steps 1 to 5."""
        terms = await self._plans.terms(ask.identity.plan_id)
        row = _new_row(ask, terms, self._ownership.owner)
        await self._admission.enter(row, terms)  # 1
        self._ownership.register(row.id)
        try:
            verdict = self._preparation.check(ask)  # 2
            choice = await self._preparation.choose(ask)  # 3
            row.model = choice.model.id
            if not verdict.allowed:
                return await self._refuse(ask, row, verdict)
            job = await self._preparation.job(ask, row, terms, choice)  # 4
            job, branched = await self._hold.begin(ask, job, terms)  # 5
        except BaseException:
            self._ownership.forget(row.id)
            await self._admission.leave(row)
            raise
        self._begun_here(job)
        self._ownership.run(row)
        return ask.started(row, branched=branched)

    async def _refuse(self, ask: Ask, row: GenerationRow, verdict: Verdict) -> Started:
        said = "\n\n".join(message.content for message in ask.unchecked)
        added = self._threads.add(ask.identity, ask.exchange, row.id, ask.model, ask.seen_head) if ask.exchange else []
        try:
            await self._settlement.refuse(row, verdict, said, added)
        except Unmet as error:
            raise TurnError("not_found", "This chat does not exist any more.", 404) from error
        self._ownership.forget(row.id)
        await self._admission.leave(row)
        if ask.exchange is None:
            raise TurnError("content_refused", verdict.message)
        return ask.started(row)

    def _stop_unseen(self, beginning: "asyncio.Future[Started]") -> None:
        """A program hung up while its turn was being prepared: what began all the same is stopped."""
        if not beginning.cancelled() and beginning.exception() is None:
            task = asyncio.ensure_future(self._log.request_stop(beginning.result().generation_id))
            task.add_done_callback(_ignore)

    @property
    def _most_chars(self) -> int:
        """How much of a thread is worth reading: what the largest window that is offered can hold."""
        return most_chars(self._preparation.largest_context)


def _ignore(task: "asyncio.Future[None]") -> None:
    """Nobody waits for it; a stop that did not reach its owner means that the answer runs to its end."""
    if not task.cancelled():
        task.exception()


def _behind(ask: Ask, history: History) -> Ask:
    """The ask with a thread's earlier messages in front of its own."""
    earlier = tuple(Message(said.role, said.text) for said in history.messages)
    places = tuple(said.position for said in history.messages)
    return replace(
        ask,
        messages=earlier + ask.messages,
        positions=places if ask.messages else places[:-1],
        since=history.dropped,
        since_model=history.model,
    )


def _new_row(ask: Ask, terms: Terms, owner: str) -> GenerationRow:
    now = now_ms()
    identity, exchange = ask.identity, ask.exchange
    return GenerationRow(
        id=new_id(),
        tenant_id=identity.tenant_id,
        user_id=identity.user_id,
        plan_id=terms.id,
        period=period_of(now),
        created_at=now,
        source=ask.source,
        thread_id=exchange.thread_id if exchange else None,
        message_id=exchange.answer_id if exchange else None,
        owner=owner,
    )
