"""Ownership: which generations this process works on, and taking over those whose owner fell silent.

A lease says who may work; the fencing number that comes with it keeps a replaced owner's late writes out. One
heartbeat renews all leases of the process. One watch looks every second for jobs that nobody holds any more.
It does not know what working on a generation means.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.ids import new_id
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.sessions.generations import Generations, Job

logger = structlog.get_logger(__name__)
WATCH_S = 1.0


def lease_of(generation_id: str) -> str:
    return f"generation:{generation_id}"


class Ownership:
    """The generations that this process owns. `work` is called with each job that was taken over."""

    def __init__(self, leases: Leases, generations: Generations, ttl_ms: int) -> None:
        self.owner = new_id()
        self._leases = leases
        self._generations = generations
        self._ttl_ms = ttl_ms
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._work: Callable[[Job], Coroutine[Any, Any, None]] | None = None

    async def start(self, work: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        """Begin to renew, and to watch for answers without an owner; those found at once are taken over first."""
        self._work = work
        self._loops = [
            asyncio.create_task(_forever(self._beat, self._ttl_ms / 3000), name="lease heartbeat"),
            asyncio.create_task(_forever(self._watch, WATCH_S), name="orphan watch"),
        ]

    async def close(self) -> None:
        """Let go of everything, so that another process goes on at once."""
        for task in [*self._loops, *self._tasks.values()]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks.values(), return_exceptions=True)

    async def acquire(self, generation_id: str) -> int:
        """The lease of a generation that is just being made; answers its fencing number."""
        fence = await self._leases.acquire(lease_of(generation_id), self.owner, self._ttl_ms)
        if fence is None:
            raise LeasesUnavailable(f"a new generation's lease is taken: {generation_id}")
        return fence

    async def release(self, generation_id: str) -> None:
        """Give back the lease of a generation that came to nothing."""
        with suppress(LeasesUnavailable):  # It runs out by itself.
            await self._leases.release(lease_of(generation_id), self.owner)

    def run(self, job: Job) -> None:
        """Work on a job in the background until it ends; its lease is renewed meanwhile and given back after."""
        assert self._work is not None, "start() comes first"
        task = asyncio.create_task(self._work(job), name=f"generation {job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda done: self._ended(job.id, done))

    @property
    def running(self) -> int:
        """How many generations this process works on now."""
        return len(self._tasks)

    def _ended(self, generation_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(generation_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The row stays active, so some process (maybe this one) takes it up again once the lease is free.
            logger.error("generation interrupted", generation=generation_id, exc_info=error)
        release = asyncio.ensure_future(self.release(generation_id))
        release.add_done_callback(lambda _: None)

    async def _beat(self) -> None:
        mine = {lease_of(generation_id): generation_id for generation_id in self._tasks}
        if not mine:
            return
        kept = await self._leases.renew(list(mine), self.owner, self._ttl_ms)
        for lost in mine.keys() - kept:
            if task := self._tasks.get(mine[lost]):
                task.cancel()  # Another process may have it by now; our writes would be refused anyway.

    async def _watch(self) -> None:
        orphans = [row for row in await self._generations.active() if row["id"] not in self._tasks]
        if not orphans:
            return
        held = await self._leases.held([lease_of(row["id"]) for row in orphans])
        for row in orphans:
            if lease_of(row["id"]) in held:
                continue
            fence = await self._leases.acquire(lease_of(row["id"]), self.owner, self._ttl_ms, floor=row["fence"])
            if fence is None:
                continue
            job = await self._generations.claim(row["id"], self.owner, fence)
            if job is None:
                await self.release(row["id"])
                continue
            logger.info("generation taken over", generation=job.id, fence=fence)
            self.run(job)


async def _forever(step: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        try:
            await step()
        except (DatabaseUnavailable, LeasesUnavailable) as error:
            logger.warning("store unavailable", error=str(error))
        except Exception:
            logger.exception("background step failed")
        await asyncio.sleep(pause_s)
