"""5. The hold: the worst case is reserved and the job created, in one transaction."""

from dataclasses import dataclass

from chat_app.billing.ledger import OVER_QUOTA, Allowance, Ledger, allowance_in
from chat_app.billing.plans import Terms
from chat_app.data.db.base import Database, OutcomeUnknown, Statement, Unmet
from chat_app.sessions.generations import GenerationRow, Generations
from chat_app.sessions.steps import Steps
from chat_app.sessions.threads import GONE, Threads, branched
from chat_app.turn.ask import Ask, TurnError, chat_gone
from chat_app.turn.bounds import Bounds
from chat_app.turn.charge import account
from chat_app.turn.commit import commit
from chat_app.turn.job import VERSION, Job
from chat_app.turn.progress import first_step

PATIENCE_S = 10.0
"""How long to look for what became of a hold whose acknowledgement was lost, while the caller waits."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A job that stands. `branched`: its question stands beside what somebody else asked meanwhile; `allowance`: the
    month with this hold in it, if it is known."""

    job: Job
    branched: bool = False
    allowance: Allowance | None = None


class Hold:
    """Begins jobs."""

    def __init__(
        self,
        db: Database,
        ledger: Ledger,
        threads: Threads,
        generations: Generations,
        steps: Steps,
        bounds: Bounds,
    ) -> None:
        self._db = db
        self._ledger = ledger
        self._threads = threads
        self._generations = generations
        self._steps = steps
        self._bounds = bounds

    async def begin(self, ask: Ask, job: Job, terms: Terms) -> Begun:
        """The job as it was begun. A month that is nearly used up still allows a shorter answer. Raises `TurnError`,
        `DatabaseUnavailable`."""
        try:
            return await self._bounds.hold(job, lambda fitting: self._commit(ask, fitting, terms))
        except Unmet as error:
            if error.name == GONE:
                raise chat_gone() from error
            if error.name != OVER_QUOTA:
                raise
            raise TurnError(
                "quota_exceeded",
                f"This month's {terms.monthly_tokens:,} tokens of your plan ({terms.name}) are used up."
                " They are renewed on the first of the month; an administrator can change your plan.",
                429,
            ) from error

    def added(self, ask: Ask, row: GenerationRow) -> list[Statement]:
        """What puts the question and the place of its answer into its thread; nothing for a call of the API."""
        if ask.exchange is None:
            return []
        return self._threads.add(ask.identity, ask.exchange, row.id, ask.model, ask.seen_head)

    async def _commit(self, ask: Ask, job: Job, terms: Terms) -> Begun:
        row, amount = job.row, job.worst_case
        row.job, row.job_version = job.to_json(), VERSION
        row.held_tokens, row.held_micro = amount.tokens, amount.micro

        async def was_committed() -> bool:
            return await self._generations.status(row.id) is not None

        statements = [
            *self._ledger.hold(account(row), 1, amount, terms.monthly_tokens),
            *self.added(ask, row),
            self._generations.create(row),
            self._steps.begin(row, first_step(row)),
        ]
        try:
            results = await commit(self._db, statements, was_committed, PATIENCE_S)
        except OutcomeUnknown as error:
            raise TurnError(
                "storage_unknown",
                "Parley lost its database while it stored your message, and cannot see whether it was stored."
                " Look again in a moment before you send it anew: if it was, it is being answered.",
                503,
                10,
            ) from error
        if results is None:  # An earlier try had taken place; what it returned is lost.
            return Begun(job)
        aside = ask.exchange is not None and branched(results, ask.exchange)
        return Begun(job, aside, allowance_in(results, account(row), terms.monthly_tokens))
