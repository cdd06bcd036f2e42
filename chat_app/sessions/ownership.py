"""Ownership: the generations that this process works on, and how it comes to have them.

It begins some itself, takes over those whose owner is gone, and takes its own up again when a task of theirs failed or
never began. One lease says that the process lives; the fence of each claim keeps a replaced owner's late writes out,
and its task is ended at the next heartbeat. It does not know what working on a generation means.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.ids import new_id
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.log.base import LogUnavailable, StaleOwner
from chat_app.sessions.generations import GenerationRow, Generations
from chat_app.sessions.presence import Pause, Presence

logger = structlog.get_logger(__name__)

Work = Callable[[GenerationRow], Coroutine[Any, Any, None]]
Beat = Callable[[Sequence[GenerationRow]], Awaitable[None]]

WATCH_S = 1.0
CLAIM = 32
"""Most jobs taken over in one look, so that what a dead process leaves is spread over those that live."""
PAUSE_S = 1.0
"""Pause before a job's second attempt; each further one is twice as long."""
MOST_PAUSE_S = 30.0
AWAY = (DatabaseUnavailable, LogUnavailable, LeasesUnavailable)
"""What an attempt ends with that failed for its store alone: it says nothing about the job."""
NOBODY = ""
HANDED_BACK_S = 30.0
"""How long a process that handed a job back leaves jobs without an owner to others."""


@dataclass(frozen=True, slots=True)
class _Running:
    row: GenerationRow
    task: asyncio.Task[None]


class Ownership:
    """The generations of this process, whose name is `owner`. `version` is the newest job format that it can read."""

    def __init__(self, leases: Leases, generations: Generations, ttl_ms: int, version: int) -> None:
        self.owner = new_id()
        self._presence = Presence(leases, self.owner, ttl_ms)
        self._generations = generations
        self._ttl_s = ttl_ms / 1000
        self._version = version
        self._work: Work | None = None
        self._on_beat: Beat | None = None
        self._running: dict[str, _Running] = {}
        self._registered: dict[str, tuple[GenerationRow, Pause]] = {}
        """Jobs in preparation here, and how long their rows are ours for certain once they are there."""
        self._pauses: dict[str, Pause] = {}
        """Per job whose task here has ended, but not the job: how long it is left alone."""
        self._uncounted: set[str] = set()
        """Those of them whose last attempt failed for a store that was away."""
        self._handed_back: Pause | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """Every task that has not ended, also one that a newer task of its job waits for."""
        self._watching: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self, work: Work, beat: Beat | None = None) -> None:
        """Say that this process lives, and begin to look for jobs that nobody works on.

        `work` does a job to its end. `beat` is called at every heartbeat (a third of the lease) with the rows
        that run or are registered.
        """
        self._work, self._on_beat, self._closing = work, beat, False
        await _attempt(self._presence.renew)
        # What a former life of this process has left counts among its people's running answers before they can ask.
        await _attempt(self._take_over)
        await self._keep()
        self._beating = asyncio.create_task(_repeat(self._beat, self._ttl_s / 3), name="heartbeat")
        self._watching = asyncio.create_task(_repeat(self._watch, WATCH_S), name="orphan watch")

    async def close(self) -> None:
        """End all tasks, then let others go on with their jobs at once."""
        self._closing = True
        await cancelled(self._watching, *self._tasks)
        await cancelled(self._beating, self._keeping)
        await self._presence.release()

    def register(self, row: GenerationRow) -> None:
        """A job is being prepared here: it is not to be taken up meanwhile, even if its row is in the table."""
        self._registered[row.id] = row, Pause.of(self._ttl_s / 3)

    def forget(self, generation_id: str) -> None:
        """The preparation is over without `run`. If the row was committed after all, this process takes it up."""
        self._registered.pop(generation_id, None)

    def run(self, row: GenerationRow, work: Work | None = None) -> None:
        """Work on a job in the background until it ends; of one job at most one task runs, under the highest fence.

        This time by `work`, if it is given, instead of what `start` was given.
        """
        work = work or self._work
        assert work is not None, "start() comes first"
        _, sure = self._registered.pop(row.id, (row, None))
        earlier = self._running.get(row.id)
        if self._closing or (earlier is not None and earlier.row.fence >= row.fence):
            return
        late = sure is not None and sure.over
        task = asyncio.create_task(self._after(earlier, work, row, late=late), name=f"generation {row.id}")
        self._running[row.id] = _Running(row, task)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(row, done))

    async def hand_back(self, row: GenerationRow) -> None:
        """Leave a job that this release cannot do to one that can."""
        self._handed_back = Pause.of(HANDED_BACK_S)
        await self._generations.hand_back(row)

    @property
    def running(self) -> int:
        """How many generations this process works on now."""
        return len(self._running)

    # Tasks -----------------------------------------------------------------------------------------------------------

    async def _after(self, earlier: _Running | None, work: Work, row: GenerationRow, *, late: bool) -> None:
        if earlier is not None:
            await cancelled(earlier.task)
        if late and not await self._generations.owned(row):
            raise StaleOwner  # Its preparation took so long that somebody took us for dead.
        await work(row)

    def _ended(self, row: GenerationRow, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        running = self._running.get(row.id)
        if running is None or running.task is not task:
            return  # a newer task of the job has taken its place
        del self._running[row.id]
        if task.cancelled():
            return
        # If the row is still active and ours, it is taken up again after this.
        last = self._pauses.get(row.id)
        self._pauses[row.id] = Pause.of(min(MOST_PAUSE_S, last.seconds * 2 if last else PAUSE_S))
        error = task.exception()
        if isinstance(error, AWAY):
            self._uncounted.add(row.id)
        if isinstance(error, StaleOwner):
            logger.info("generation left to its new owner", generation=row.id)
        elif error is not None:
            logger.error("generation interrupted", generation=row.id, attempts=row.attempts, exc_info=error)

    # The heartbeat ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        # What may wait for a store must not keep the next heartbeat waiting.
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep(), name="after a heartbeat")
        await self._presence.renew()

    async def _keep(self) -> None:
        await _attempt(self._drop_taken)  # What others have by now is none of the heartbeat's business.
        await _attempt(self._call_beat)

    async def _call_beat(self) -> None:
        rows = [row for row, _ in self._registered.values()]
        rows += [running.row for running in self._running.values()]
        if self._on_beat is not None and rows:
            await self._on_beat(rows)

    async def _drop_taken(self) -> None:
        """End the tasks of jobs that another owner has by now: it took us for dead."""
        before = list(self._running.values())
        if not before:
            return
        mine = dict(await self._generations.active_of(self.owner))
        for running in before:
            row = running.row
            # A row that has just ended under our fence is left alone: its task is about to end.
            if mine.get(row.id) != row.fence and not await self._generations.owned(row):
                logger.info("generation left to its new owner", generation=row.id)
                running.task.cancel()

    # The watch -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        await self._resume()
        await self._take_over()

    async def _resume(self) -> None:
        """Take up own jobs without a task: it failed, or whoever began the job never learned that it was committed."""
        waiting = set(self._pauses)
        rows = await self._generations.active_of(self.owner)
        for generation_id in waiting - {generation_id for generation_id, _ in rows}:
            self._pauses.pop(generation_id, None)
            self._uncounted.discard(generation_id)
        for generation_id, fence in rows:
            if generation_id in self._running or generation_id in self._registered:
                continue
            pause = self._pauses.get(generation_id)
            if pause is not None and not pause.over:
                continue
            counted = generation_id not in self._uncounted
            row = await self._generations.reclaim(generation_id, self.owner, fence, counted=counted)
            if row is not None:
                self._uncounted.discard(generation_id)
                logger.info("generation taken up again", generation=row.id, fence=row.fence, attempts=row.attempts)
                self.run(row)

    async def _take_over(self) -> None:
        """Claim jobs of owners that are gone, and those that were handed back."""
        owners = await self._generations.owners()
        if owners in ([], [self.owner]):
            return
        if self._handed_back is not None and not self._handed_back.over:
            owners = [owner for owner in owners if owner != NOBODY]
        gone = await self._presence.dead(owners)
        random.shuffle(gone)
        room = CLAIM
        for owner in gone:
            rows = await self._generations.claim(owner, self.owner, room, self._version)
            for row in rows:
                logger.info("generation taken over", generation=row.id, fence=row.fence, attempts=row.attempts)
                self.run(row)
            room -= len(rows)
            if room <= 0:
                return


async def _repeat(step: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        began = time.monotonic()
        await _attempt(step)
        # Whatever the clock did meanwhile, the pause is neither negative nor longer than it should be.
        took = min(max(time.monotonic() - began, 0.0), every_s)
        await asyncio.sleep((every_s - took) * random.uniform(0.8, 1.0))  # noqa: S311


async def _attempt(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except (DatabaseUnavailable, LeasesUnavailable) as error:
        logger.warning("store unavailable", error=str(error))
    except Exception:
        logger.exception("background step failed")
