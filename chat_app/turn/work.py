"""6 to 8. The work on a turn, in the background, here or wherever it is taken over. Read this first.

Stages 1 to 5 (`begin.py`) ran while the caller waited, and left a generation row with a job in it. From there a turn is
a durable job: it runs step by step until one ends it. What has been written lies in the generation log, which viewers
tail; which steps are done lies in the database. So any process can go on from there at any moment.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.prompts.prompt import UnknownPart
from chat_app.sessions.generations import LEFT_MS, GenerationRow, Generations
from chat_app.sessions.log_writer import LogWriter
from chat_app.turn.admit import Admission
from chat_app.turn.job import Job, Outdated, Unreadable
from chat_app.turn.settle import Settlement
from chat_app.turn.stream import Streams
from chat_app.turn.transitions import Transitions

logger = structlog.get_logger(__name__)

MOST_ATTEMPTS = 20
"""Attempts at one answer before it is given up, lest a poisonous one travel round the fleet for ever. One that ended
because a store was away is not counted."""
MOST_STEPS = 32
"""Steps of one turn. A model whose calls would lead beyond, by being many or by never ending, gets none of them made:
the turn ends as failed with `TOO_MANY_STEPS`, keeps its text, and is charged for what was delivered."""
TOO_MANY_STEPS = "The answer was ended here: the model asked for tools more often than one answer allows."
GIVEN_UP = "This answer could not be finished, although it was tried many times."
UNREADABLE = "This answer could not be finished: what was stored of it is damaged."
TOO_NEW = "This answer was begun by a newer version of Parley, which does not run any more. Please ask again."
OUTDATED = "This answer was cut off when Parley was updated. It was not charged; please ask again."


class Worker:
    """Works on turns; `Ownership` runs one `work` for each generation that this process owns."""

    def __init__(
        self,
        db: Database,
        log: GenerationLog,
        generations: Generations,
        admission: Admission,
        transitions: Transitions,
        streams: Streams,
        settlement: Settlement,
        hand_back: Callable[[GenerationRow], Awaitable[None]],
    ) -> None:
        self._db = db
        self._log = log
        self._generations = generations
        self._admission = admission
        self._transitions = transitions
        self._streams = streams
        self._settlement = settlement
        self._hand_back = hand_back

    async def work(self, row: GenerationRow, job: Job | None = None) -> None:
        """Bring a turn to its end; `job` is that of the row, where it need not be read from it. Raises what keeps it
        from that: `StaleOwner` if another has it by now, with its place among the person's running answers; after
        anything else it is tried again."""
        writer = LogWriter(self._log, self._db, self._generations, row)
        try:
            status = await self._end(row, job, writer)
        except UnknownPart as error:
            if not await self._is_over(row, writer):
                logger.warning("generation left to a newer release", generation=row.id, part=str(error))
                await self._admission.leave(row)  # It may take long, and nothing of it runs.
                await self._hand_back(row)
                return
            status = await self._settlement.give_up(row, TOO_NEW)
        await self._admission.leave(row)  # Before anybody sees the end and asks again.
        await writer.end(status)

    async def beat(self, rows: Sequence[GenerationRow]) -> None:
        """With every heartbeat, of the turns that run here: keep their places, and stop those whose thread was deleted
        while their stop could not be posted. Raises `DatabaseUnavailable`."""
        await self._admission.occupy(rows)
        for generation_id in await self._generations.in_deleted_threads(rows[0].owner):
            with suppress(LogUnavailable):  # It is stopped here in any case.
                await self._log.request_stop(generation_id)

    async def _is_over(self, row: GenerationRow, writer: LogWriter) -> bool:
        """Whether a job that this release cannot do is not to be left to a newer one any longer."""
        if not row.fresh:
            await writer.open()
        return self._log.stop_requested(row.id).is_set() or now_ms() - row.created_at > LEFT_MS

    async def _end(self, row: GenerationRow, job: Job | None, writer: LogWriter) -> str:
        """Run the turn's steps, settle it, and return its final status."""
        if not row.fresh:
            await self._admission.occupy([row])
        if row.attempts > MOST_ATTEMPTS:
            return await self._settlement.give_up(row, GIVEN_UP)
        try:
            job = job or Job.from_row(row)
            await writer.open()
            turn = await self._transitions.resume(job, writer)
        except Unreadable as error:
            logger.error("generation given up", generation=row.id, error=str(error))
            return await self._settlement.give_up(row, OUTDATED if isinstance(error, Outdated) else UNREADABLE)
        while True:
            if turn.step.kind == "model":
                sealed = await self._streams.run(turn)  # 6
                last = turn.ended(sealed)
                if turn.goes_on(sealed):
                    if turn.planned <= MOST_STEPS:
                        await self._transitions.to_tools(turn, last)
                        continue
                    sealed = replace(sealed, finish="failed", error=TOO_MANY_STEPS, code="too_many_steps")
            elif turn.step.kind != "tool":
                raise UnknownPart(f"a step of kind {turn.step.kind}")
            elif (end := await self._transitions.run_tool(turn)) is None:
                continue
            else:
                last, sealed = end
            return await self._settlement.end(turn, last, sealed)  # 7 and 8
