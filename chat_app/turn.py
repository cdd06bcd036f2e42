"""One chat turn, start to finish. Read this first.

A person in the browser (`say`, `regenerate`) and a program with a key (`call`) take the same eight steps. Steps 1 to 5
happen while the caller waits (`_begin`); then the turn is a durable job that any process can pick up (`work`, steps 6
to 8), and whoever wants to see the answer tails the generation log.

This file composes the rooms and knows none of their tables; what has to be true together is committed in one batch.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

import structlog

from chat_app.accounts.identity import Identity
from chat_app.ask import Ask, Started, TurnError, readable
from chat_app.billing.ledger import OVER_QUOTA, Account, Ledger, period_of
from chat_app.billing.plans import Plans, Terms
from chat_app.data.db.base import Database, DatabaseUnavailable, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.limits.base import Limits, LimitsUnavailable
from chat_app.data.log.base import GenerationLog, LogUnavailable, StaleOwner
from chat_app.engine import Engine, trouble, until
from chat_app.prompts.prompt import Prompt, build
from chat_app.prompts.window import TooLong
from chat_app.receipt import Progress, event, outcome, refusal
from chat_app.routing.policy import Choice, UnknownModel, choose
from chat_app.safety.input import check_input
from chat_app.safety.output import OutputScreen
from chat_app.safety.review import Reviews
from chat_app.safety.verdict import ALLOWED, Verdict
from chat_app.sessions.generations import Generations, Job, NotFound
from chat_app.sessions.ownership import Ownership
from chat_app.sessions.pen import Pen
from chat_app.sessions.threads import Exchange, Threads
from chat_app.settings import Settings
from chat_app.telemetry.events import Events
from chat_app.telemetry.metrics import turn_ended
from inference.protocol import EngineError, Message, ModelCard, Request, Sampling

__all__ = ["Ask", "Started", "TurnError", "Turns"]

logger = structlog.get_logger(__name__)

STREAM_TTL_MS = 15 * 60_000
LEAST_ANSWER = 16
"""Tokens that an answer must at least have room for, or the turn is not worth beginning."""
UNKNOWN_CONTEXT = 4_096
"""Window in tokens of a model whose server does not say."""
MOST_ATTEMPTS = 20
"""Owners that may die over one answer before it is given up, lest a poisonous one travel round the fleet for ever."""


@dataclass(slots=True)
class Turns:
    """Every turn of this process."""

    settings: Settings
    db: Database
    log: GenerationLog
    limits: Limits
    engine: Engine
    ownership: Ownership
    plans: Plans
    ledger: Ledger
    threads: Threads
    generations: Generations
    reviews: Reviews
    events: Events
    _cards: list[ModelCard] = field(default_factory=list)

    # What callers ask for ------------------------------------------------------------------------------------------

    async def say(self, identity: Identity, text: str, thread_id: str | None = None, model: str = "") -> Started:
        """A person says something, in a new thread if none is named."""
        text = readable(text, self.settings.max_input_chars)
        parent_id: str | None = None
        history: list[tuple[str, str]] = []
        if thread_id is not None:
            try:
                parent_id, kept_model = await self.threads.head(identity, thread_id)
            except NotFound as error:
                raise TurnError("not_found", "This chat does not exist any more.", 404) from error
            history = await self.threads.history(parent_id)
            model = model or kept_model
        exchange = Exchange(thread_id or new_id(), new_id(), parent_id, new_id(), text, thread_id is None)
        messages = (*(Message(role, said) for role, said in history), Message("user", text))
        return await self._begin(Ask(identity, "chat", messages, model, exchange=exchange))

    async def regenerate(self, identity: Identity, answer_id: str, model: str = "") -> Started:
        """Answer an old question anew, beside the old answer."""
        try:
            thread_id, question_id, _ = await self.threads.answer(identity, answer_id)
            _, kept_model = await self.threads.head(identity, thread_id)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist any more.", 404) from error
        history = await self.threads.history(question_id)
        exchange = Exchange(thread_id, new_id(), question_id)
        messages = tuple(Message(role, said) for role, said in history)
        return await self._begin(Ask(identity, "chat", messages, model or kept_model, exchange=exchange))

    async def call(
        self,
        identity: Identity,
        messages: Sequence[Message],
        model: str = "",
        sampling: Sampling | None = None,
    ) -> Started:
        """A program sends a whole conversation; no thread is kept."""
        if not messages:
            raise TurnError("bad_input", "messages must hold at least one message.")
        most = self.settings.max_input_chars
        said = tuple(Message(message.role, readable(message.content, most)) for message in messages)
        return await self._begin(Ask(identity, "api", said, model, sampling))

    async def stop(self, identity: Identity, generation_id: str) -> None:
        """Stop an answer wherever it is being written; what was delivered stays and is settled."""
        try:
            view = await self.generations.view(identity, generation_id)
        except NotFound as error:
            raise TurnError("not_found", "This answer does not exist.", 404) from error
        if not view.ended:
            await self.log.request_stop(generation_id)

    # Steps 1 to 5, while the caller waits ----------------------------------------------------------------------------

    async def _begin(self, ask: Ask) -> Started:
        try:
            return await self._admitted(ask)
        except (DatabaseUnavailable, LogUnavailable, LeasesUnavailable, LimitsUnavailable) as error:
            logger.warning("storage unavailable", error=str(error))
            raise TurnError(
                "storage_unavailable",
                "Parley cannot store anything right now. Nothing was sent or charged.",
                503,
                5,
            ) from error

    async def _admitted(self, ask: Ask) -> Started:
        terms = await self.plans.terms(ask.identity.plan_id)
        job = _new_job(ask, terms)
        await self._admit(job, terms)  # 1
        try:
            verdict = self._check(ask)  # 2
            choice = await self._choose(ask.model)  # 3
            job.model = choice.model.id
            if not verdict.allowed:
                return await self._refuse(ask, job, verdict)
            building = self._build(ask, terms, choice)  # 4
            prompt, job.fence = await asyncio.gather(building, self.ownership.acquire(job.id))
            await self._hold(ask, job, terms, prompt)  # 5
        except BaseException:
            await self._let_go(job)
            raise
        self.ownership.run(job)
        return ask.started(job)

    async def _admit(self, job: Job, terms: Terms) -> None:
        """1. Within the tier's rate and its number of answers at a time?"""
        wait_ms = await self.limits.hit(f"turns:{job.user_id}", terms.requests_per_minute)
        if wait_ms:
            raise TurnError(
                "rate_limited",
                f"Your plan ({terms.name}) allows {terms.requests_per_minute} messages a minute."
                f" Try again in {-(-wait_ms // 1000)} s.",
                429,
                wait_ms / 1000,
            )
        most = terms.concurrent_streams
        if not await self.limits.enter(_streams(job), job.id, most, STREAM_TTL_MS):
            raise TurnError(
                "too_many_streams",
                f"Your plan ({terms.name}) allows {most} answers at a time. Wait for one to finish, or stop it.",
                429,
                2,
            )

    async def _let_go(self, job: Job) -> None:
        """Nothing came of it: free its place and its lease."""
        await self.ownership.release(job.id)
        await self._leave(job)

    async def _leave(self, job: Job) -> None:
        with suppress(LimitsUnavailable):  # Its place frees itself in time.
            await self.limits.leave(_streams(job), job.id)

    def _check(self, ask: Ask) -> Verdict:
        """2. Is what they wrote fit to be answered?"""
        verdicts = (check_input(message.content) for message in self._unchecked(ask))
        return next((verdict for verdict in verdicts if not verdict.allowed), ALLOWED)

    def _unchecked(self, ask: Ask) -> list[Message]:
        """A thread's earlier messages were checked when they were said; a program sends whole conversations."""
        messages = ask.messages[-1:] if ask.exchange else ask.messages
        return [message for message in messages if message.role == "user"]

    async def _choose(self, wanted: str) -> Choice:
        """3. The model, out of what the engine offers now."""
        try:
            if not self._cards or (wanted and wanted not in {card.id for card in self._cards}):
                self._cards = await self.engine.models()
            return choose(wanted, self._cards, self.settings.default_model)
        except UnknownModel as error:
            offered = ", ".join(error.offered) or "none at the moment"
            raise TurnError(
                "model_unknown", f"There is no model “{error.wanted}” here. Offered: {offered}.", 404
            ) from error
        except EngineError as error:
            raise trouble(error) from error

    async def _build(self, ask: Ask, terms: Terms, choice: Choice) -> Prompt:
        """4. As much of the conversation as fits, behind the system prompt."""
        model = choice.model
        bounds = (terms.max_output_tokens, self.settings.max_output_tokens)
        try:
            return await build(
                ask.messages,
                system_prompt=self.settings.system_prompt,
                context=model.context or UNKNOWN_CONTEXT,
                asked=ask.sampling or Sampling(max_tokens=0, temperature=self.settings.temperature),
                most_answer=min(bound for bound in bounds if bound),
                route=choice.route,
                weight=terms.weight,
                count=lambda messages: self.engine.count(model.id, messages),
            )
        except TooLong as error:
            raise TurnError(
                "context_too_long",
                f"This message needs {error.tokens} tokens; {model.id} has room for {error.room}. Shorten it.",
            ) from error
        except EngineError as error:
            raise trouble(error) from error

    async def _hold(self, ask: Ask, job: Job, terms: Terms, prompt: Prompt) -> None:
        """5. Reserve the worst case and create the job, in one transaction. A month that is nearly used up still
        gives a shorter answer."""
        account = Account(job.tenant_id, job.user_id, job.id, job.period)
        job.prompt_tokens = prompt.window.tokens
        for _ in range(2):
            job.held_tokens = prompt.worst_case
            job.prompt = prompt.to_json()
            try:
                await self.db.batch(
                    *self.ledger.hold(account, job.held_tokens, terms.monthly_tokens),
                    *(self.threads.add(ask.identity, ask.exchange, job.id, ask.model) if ask.exchange else ()),
                    self.generations.create(job, self.ownership.owner),
                )
                return
            except Unmet as error:
                if error.name != OVER_QUOTA:
                    raise TurnError("not_found", "This chat does not exist any more.", 404) from error
            left = (await self.ledger.allowance(job.user_id, terms.monthly_tokens)).left or 0
            room = left - prompt.window.tokens
            if room < LEAST_ANSWER:
                break
            sampling = replace(prompt.sampling, max_tokens=min(prompt.sampling.max_tokens, room))
            prompt = replace(prompt, sampling=sampling)
        raise TurnError(
            "quota_exceeded",
            f"This month's {terms.monthly_tokens:,} tokens of your plan ({terms.name}) are used up."
            " They are renewed on the first of the month; an administrator can change your plan.",
            429,
        )

    async def _refuse(self, ask: Ask, job: Job, verdict: Verdict) -> Started:
        """The input check said no: nothing is charged; the thread and the reviewers see it."""
        ended = refusal(job, verdict)
        said = "\n\n".join(message.content for message in self._unchecked(ask))
        await self.db.batch(
            *(self.threads.add(ask.identity, ask.exchange, job.id, ask.model) if ask.exchange else ()),
            self.generations.create(job, ""),
            *self.generations.finish(job, ended),
            self.reviews.refusal(job.tenant_id, job.user_id, job.id, verdict, said),
            self.events.turn(told := event(job, ended, verdict)),
        )
        turn_ended(told)
        await self._let_go(job)
        if ask.exchange is None:
            raise TurnError("content_refused", verdict.message)
        return ask.started(job)

    # Steps 6 to 8, in the background, here or wherever the job is taken over -----------------------------------------

    async def work(self, job: Job) -> None:
        """Write the answer to its end. Runs again, from the text so far, when its owner or its engine died."""
        prompt = Prompt.from_json(job.prompt)
        pen = Pen(self.log, self.db, self.generations, job)
        progress = Progress()
        try:
            await pen.open()
            await self._stream(job, prompt, pen, progress)  # 6
            if await self._settle(job, prompt, pen, progress):  # 7 and 8
                await self.log.end(job.id, job.fence, progress.status)
        except StaleOwner:
            logger.info("generation left to its new owner", generation=job.id)
        finally:
            await self._leave(job)

    async def _stream(self, job: Job, prompt: Prompt, pen: Pen, progress: Progress) -> None:
        """6. The engine's text, checked, into the log, until it ends, is stopped, blocked, or cannot go on."""
        screen = OutputScreen(released=pen.text)
        stop = self.log.stop_requested(job.id)
        request = Request(
            job.model,
            prompt.window.messages,
            prompt.sampling,
            continue_from=pen.text,
            request_id=job.id,
            user=job.user_id,
            weight=prompt.weight,
            gather_ms=self.settings.gather_ms,
            affinity=job.thread_id or "",
        )
        try:
            if pen.text:  # Taken over: what the earlier owner delivered counts, as the engine counts it.
                progress.taken_over = True
                whole = await self.engine.count(job.model, prompt.window.messages, pen.text)
                progress.tokens = max(0, whole - prompt.window.tokens)
                left = prompt.sampling.max_tokens - progress.tokens
                if left <= 0:
                    progress.finish = "length"
                    return
                request = replace(request, sampling=replace(prompt.sampling, max_tokens=left))
            if job.attempts > MOST_ATTEMPTS:
                progress.error = "This answer could not be finished, although it was tried many times."
                return
            async with aclosing(until(stop, self.engine.stream(request))) as chunks:
                async for chunk in chunks:
                    progress.tokens += chunk.tokens
                    await pen.write(screen.feed(chunk.text))
                    if screen.blocked is not None:
                        break
                    if chunk.finish is not None:
                        progress.finish, progress.usage = chunk.finish, chunk.usage
            await pen.write(screen.finish())
            progress.blocked = screen.blocked
            if not progress.finish and progress.blocked is None:
                progress.finish = "stopped"
        except EngineError as error:
            logger.warning("engine trouble", generation=job.id, error=str(error))
            failed = trouble(error)
            progress.error, progress.code = failed.message, failed.code

    async def _settle(self, job: Job, prompt: Prompt, pen: Pen, progress: Progress) -> bool:
        """7 and 8. Charge what was delivered, end the job, record receipt and event: one transaction, once.

        False when the job turns out to be another owner's, or ended already: then nothing is written."""
        price = await self.ledger.price(job.model)
        ended = outcome(job, prompt, progress, pen.text, pen.first_token_at, price)
        account = Account(job.tenant_id, job.user_id, job.id, job.period)
        review = (
            [self.reviews.refusal(job.tenant_id, job.user_id, job.id, progress.blocked, pen.text)]
            if progress.blocked
            else []
        )
        statements = (
            *self.generations.finish(job, ended),
            *self.ledger.settle(
                account, job.held_tokens, ended.prompt_tokens + ended.completion_tokens, ended.cost_micro
            ),
            *review,
            self.events.turn(told := event(job, ended, progress.blocked)),
        )
        while True:
            try:
                await self.db.batch(*statements)
                turn_ended(told)
                return True
            except Unmet as error:
                logger.info("generation had ended elsewhere", generation=job.id, unmet=error.name)
                return False
            except DatabaseUnavailable as error:
                # The text is in the log and the lease is ours: wait for the database rather than lose the end.
                logger.warning("cannot settle yet", generation=job.id, error=str(error))
                await asyncio.sleep(1)


def _new_job(ask: Ask, terms: Terms) -> Job:
    now = now_ms()
    identity, exchange = ask.identity, ask.exchange
    return Job(
        id=new_id(),
        tenant_id=identity.tenant_id,
        user_id=identity.user_id,
        plan_id=terms.id,
        source=ask.source,
        thread_id=exchange.thread_id if exchange else None,
        message_id=exchange.answer_id if exchange else None,
        period=period_of(now),
        created_at=now,
    )


def _streams(job: Job) -> str:
    return f"streams:{job.user_id}"
