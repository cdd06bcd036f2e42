"""1 to 5. The beginning of a turn, while its caller waits."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from chat_app.accounts.grant import Grant
from chat_app.accounts.identity import Identity
from chat_app.billing.plans import Plans
from chat_app.data.db.base import DatabaseUnavailable, Unmet
from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.ownership import Ownership
from chat_app.sessions.threads import GONE
from chat_app.turn.admit import Admission, Place, new_row
from chat_app.turn.aside import aside
from chat_app.turn.ask import Ask, Started, TurnError, chat_gone
from chat_app.turn.check import Refusal, check
from chat_app.turn.hold import Hold
from chat_app.turn.prepare import Preparation
from chat_app.turn.settle import Settlement

QUICK, QUICK_TEXTS = 20_000, 100
"""Characters and texts of an ask that is checked at once; a longer one in a thread."""
logger = structlog.get_logger(__name__)


class TurnStarter:
    """Begins turns, and has `ownership` run them here: by `work`, which gets the row and the job."""

    def __init__(
        self,
        log: GenerationLog,
        plans: Plans,
        ownership: Ownership,
        admission: Admission,
        preparation: Preparation,
        hold: Hold,
        settlement: Settlement,
        work: Callable[..., Coroutine[Any, Any, None]],
    ) -> None:
        self._log = log
        self._plans = plans
        self._ownership = ownership
        self._admission = admission
        self._preparation = preparation
        self._hold = hold
        self._settlement = settlement
        self._work = work

    async def admit(self, identity: Identity, source: str, grant: Grant | None = None) -> Place:
        """1. A place for an answer of this person's, within what a program's key may use. Raises `TurnError`,
        `DatabaseUnavailable`, `LimitsUnavailable`."""
        terms = await self._plans.terms(identity.plan_id)
        row = new_row(identity, source, terms, self._ownership.owner)
        if grant is not None:
            await self._admission.count_key(row, grant)
        await self._admission.enter(row, terms)
        return Place(self._admission, row, terms)

    async def begin(self, ask: Ask, place: Place | None = None) -> Started:
        """The turn, begun; or refused by the input check, and so ended already. Raises `TurnError`.

        `place` is the caller's, if it was admitted before it said what it wants; the turn leaves it, whatever comes.
        Whoever is cancelled here does not cancel it: a hold under way could be there without anybody to work on it.
        """
        if place is not None:
            place.begun = True
        beginning = asyncio.ensure_future(self._begin(ask, place))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # A person's answer goes on without its page; a program reads nothing any more, unless it comes back for it.
            if ask.source == "api" and not ask.detached:
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

    async def _begin(self, ask: Ask, place: Place | None) -> Started:
        """Stages 1 to 5."""
        place = place or await self.admit(ask.identity, ask.source)
        row, terms = place.row_of(ask), place.terms
        self._ownership.register(row)
        try:
            refusal = await _checked(ask)  # 2
            choice = await self._preparation.choose(ask)  # 3
            row.model = choice.model.id
            if refusal is not None:
                await self._admission.count_refusal(row)
                return await self._refuse(ask, row, refusal)
            job = await self._preparation.job(ask, row, terms, choice)  # 4
            begun = await self._hold.begin(ask, job, terms)  # 5
        except BaseException:
            self._ownership.forget(row.id)
            await self._admission.leave(row)
            raise
        self._ownership.run(row, partial(self._work, job=begun.job))
        return ask.started(row, branched=begun.branched, terms=terms, allowance=begun.allowance)

    async def _refuse(self, ask: Ask, row: GenerationRow, refusal: Refusal) -> Started:
        if ask.exchange is not None:
            ask = replace(ask, exchange=replace(ask.exchange, question=refusal.question))
        added = self._hold.added(ask, row)
        try:
            await self._settlement.refuse(row, refusal.verdict, refusal.excerpt, added)
        except Unmet as error:
            if error.name != GONE:
                raise
            raise chat_gone() from error
        self._ownership.forget(row.id)
        await self._admission.leave(row)
        if ask.exchange is None:
            raise TurnError("content_refused", refusal.verdict.message)
        return ask.started(row)

    def _stop_unseen(self, beginning: "asyncio.Future[Started]") -> None:
        """A program hung up while its turn was being prepared: what began all the same is stopped."""
        if not beginning.cancelled() and beginning.exception() is None:
            task = asyncio.ensure_future(self._log.request_stop(beginning.result().generation_id))
            task.add_done_callback(_ignore)


def _ignore(task: "asyncio.Future[None]") -> None:
    """Nobody waits for it; a stop that did not reach its owner means that the answer runs to its end."""
    if not task.cancelled():
        task.exception()


async def _checked(ask: Ask) -> Refusal | None:
    """What the check says. Where it takes long, others go on meanwhile."""
    quick = ask.length <= QUICK and ask.texts <= QUICK_TEXTS
    return check(ask) if quick else await aside(partial(check, ask))
