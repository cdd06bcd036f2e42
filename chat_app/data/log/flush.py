"""Gathers the appends of all generations in this process and hands them over together, at most once an interval.

A generation's first text and its end go at once, so that the interval adds nothing to the time to the first token; what
comes after a pause waits only for its neighbours of the same decode step. It does not know how text is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable

from chat_app.data.log.base import LogUnavailable

GATHER_S = 0.002
"""An engine gives all its streams a token in the same step: they arrive within this time and share a flush."""


class Entry:
    """One append (`text`), or with `status` the end of a generation. The owner awaits `stored`."""

    __slots__ = ("data", "fence", "generation", "offset", "status", "stored", "text")

    def __init__(
        self, generation: str, fence: int, offset: int, text: str, data: bytes, status: str | None = None
    ) -> None:
        self.generation = generation
        self.fence = fence
        self.offset = offset
        self.text = text
        self.data = data
        """The text as the store takes it."""
        self.status = status
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self, error: Exception | None = None) -> None:
        if self.stored.done():
            return
        if error is None:
            self.stored.set_result(None)
        else:
            self.stored.set_exception(error)


class Flusher:
    """`store` gets the entries in the order in which they were added and resolves each; one call at a time."""

    def __init__(self, interval_s: float, store: Callable[[list[Entry]], Awaitable[None]]) -> None:
        self._interval = interval_s
        self._store = store
        self._waiting: list[Entry] = []
        self._go = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="generation log flush")

    async def close(self) -> None:
        """Store what was added before, then stop."""
        self._closing = True
        self._go.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def add(self, entry: Entry, *, urgent: bool) -> None:
        """Returns when the entry is stored, or raises what kept it from being stored."""
        if self._task is None or self._closing:
            raise LogUnavailable("the generation log is not open")
        self._waiting.append(entry)
        if urgent:
            self._go.set()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._due, loop.time() + GATHER_S), self._go.set)
        await entry.stored

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            await self._go.wait()
            self._go.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._due = loop.time() + self._interval
            entries, self._waiting = self._waiting, []
            # A caller that was cancelled withdraws what has not gone out; a flush itself is never cut short.
            entries = [entry for entry in entries if not entry.stored.cancelled()]
            if entries:
                await self._flush(entries)

    async def _flush(self, entries: list[Entry]) -> None:
        try:
            await self._store(entries)
        except Exception as error:
            for entry in entries:
                entry.resolve(error)
