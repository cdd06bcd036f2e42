"""7 and 8. The end of a turn: charge what was delivered, end the job, record receipt and event, in one transaction."""

from collections.abc import Sequence
from contextlib import suppress

import structlog

from chat_app.billing.ledger import NOTHING, Ledger
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.safety.review import Reviews
from chat_app.safety.verdict import Verdict
from chat_app.sessions.generations import GenerationRow, Generations, Outcome
from chat_app.sessions.steps import Step, Steps
from chat_app.telemetry.events import Events
from chat_app.telemetry.metrics import turn_ended
from chat_app.turn.charge import account, held, used
from chat_app.turn.commit import commit
from chat_app.turn.progress import Progress
from chat_app.turn.receipt import event, outcome, refusal
from chat_app.turn.remains import given_up
from chat_app.turn.seal import Sealed

logger = structlog.get_logger(__name__)


class Settlement:
    """Ends turns, each exactly once."""

    def __init__(
        self,
        db: Database,
        log: GenerationLog,
        ledger: Ledger,
        generations: Generations,
        steps: Steps,
        reviews: Reviews,
        events: Events,
    ) -> None:
        self._db = db
        self._log = log
        self._ledger = ledger
        self._generations = generations
        self._steps = steps
        self._reviews = reviews
        self._events = events

    async def end(self, turn: Progress, last: Step, sealed: Sealed) -> str:
        """The turn ends with its running step, which turned out as `last`. Returns its status. Raises `StaleOwner`."""
        row = turn.job.row
        ended = outcome(turn.job, [*turn.done, last], sealed, turn.writer)
        statements = [*self._generations.finish(row, ended), self._steps.finish(row, last)]
        if sealed.blocked is not None:
            statements.append(self._review(row, sealed.blocked, sealed.excerpt))
        if last.kind == "model":
            statements += self._ledger.settle(account(row), last.seq, held(row), used(last))
        await self._commit(row, ended, sealed.blocked, statements)
        return ended.status

    async def give_up(self, row: GenerationRow, error: str) -> str:
        """End a turn whose job cannot be used: free what it holds, keep what is left of its log, charge no more."""
        log = await self._generations.checkpointed(row.id)
        with suppress(LogUnavailable):
            log = max((await self._log.read(row.id)).text, log, key=len)
        steps = await self._steps.of(row.id)
        ended = given_up(row, error, steps, log)
        finish = [*self._generations.finish(row, ended), self._steps.cut(row, ended.finished_at)]
        freed = self._ledger.release(account(row), row.step, held(row)) if held(row) != NOTHING else []
        try:
            await self._commit(row, ended, None, [*finish, *freed])
        except Unmet:  # It holds what its ledger says is settled: the rows contradict each other.
            logger.error("a hold that had been settled is left", generation=row.id)
            await self._commit(row, ended, None, finish)
        return ended.status

    async def refuse(self, row: GenerationRow, verdict: Verdict, said: str, added: Sequence[Statement]) -> None:
        """The input check said no: nothing is charged; the thread (`added`) and the reviewers see it.

        Does not wait for a database that is away: its caller does not.
        """
        ended = refusal(row, verdict)
        statements = [*added, self._generations.create(row), *self._generations.finish(row, ended)]
        await self._commit(row, ended, verdict, [*statements, self._review(row, verdict, said)], patience_s=0)

    def _review(self, row: GenerationRow, verdict: Verdict, said: str) -> Statement:
        return self._reviews.refusal(row.tenant_id, row.user_id, row.id, verdict, said)

    async def _commit(
        self,
        row: GenerationRow,
        ended: Outcome,
        verdict: Verdict | None,
        statements: Sequence[Statement],
        patience_s: float | None = None,
    ) -> None:
        async def was_committed() -> bool:
            return await self._generations.ended_under(row)

        record = event(row, ended, verdict)
        await commit(self._db, [self._events.turn(record), *statements], was_committed, patience_s)
        turn_ended(record)
