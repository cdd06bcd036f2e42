"""Jobs in a fair queue, for tests: they run until they are told to end."""

import asyncio
from collections.abc import Iterable

from inference.fairqueue import FairQueue
from inference.protocol import Message, Request, Sampling


def ask(user: str = "", weight: int = 1, id: str = "", max_wait_ms: int = 0) -> Request:
    return Request("m", (Message("user", "x"),), Sampling(1), "", id, user, weight, max_wait_ms=max_wait_ms)


class Engine:
    """Jobs that run until they are told to end. `began` is the order in which they were let in, by user."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.began: list[str] = []
        self.running: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.most = [0, 0]

    def add(self, user: str, tokens: int = 100, weight: int = 1, spends: int | None = None, id: str = "") -> None:
        self.tasks.append(asyncio.create_task(self._job(ask(user, weight, id), tokens, spends)))

    async def _job(self, request: Request, tokens: int, spends: int | None) -> None:
        async with self.queue.place(request, tokens) as place:
            place.spent = tokens if spends is None else spends
            self.began.append(request.user)
            self.most = [max(self.most[0], self.queue.running), max(self.most[1], self.queue.held)]
            ended = asyncio.Event()
            self.running.append(ended)
            await ended.wait()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def finish(self, jobs: int = 1) -> None:
        """The oldest end, one after the other."""
        for _ in range(jobs):
            if self.running:
                self.running.pop(0).set()
            await self.settle()

    async def drain(self) -> None:
        while self.running or self.queue.waiting:
            await self.finish()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def loaded(queue: FairQueue, jobs: Iterable[tuple[str, int]]) -> Engine:
    engine = Engine(queue)
    for user, weight in jobs:
        engine.add(user, weight=weight)
        await engine.settle()
    return engine
