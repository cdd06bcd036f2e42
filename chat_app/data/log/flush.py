"""Hands the appends of all generations in this process to the store together, as soon as the store is idle.

What is added in one turn of the event loop goes out in the next one; what is added while a flush is under way goes out
with the next flush. So a lone append waits for nothing, and the busier the store, the larger its flushes become. It
does not know how text is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable

from chat_app.data.log.base import LogUnavailable


class Append:
    """Text for one generation, or with `status` its end. The caller awaits `stored`."""

    __slots__ = ("begins", "data", "fence", "generation", "offset", "status", "stored", "text")

    def __init__(
        self,
        generation: str,
        fence: int,
        offset: int,
        text: str,
        data: bytes,
        status: str | None = None,
        *,
        begins: bool = False,
    ) -> None:
        self.generation = generation
        self.fence = fence
        self.offset = offset
        self.text = text
        self.data = data
        """The text as the store takes it."""
        self.status = status
        self.begins = begins
        """Whether it may make the log: nobody has opened it, its writer has only begun it."""
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self, error: Exception | None = None) -> None:
        if self.stored.done():
            return
        if error is None:
            self.stored.set_result(None)
        else:
            self.stored.set_exception(error)


class Flusher:
    """`store` gets the appends in the order in which they were added and resolves each; one call at a time."""

    def __init__(self, store: Callable[[list[Append]], Awaitable[None]]) -> None:
        self._store = store
        self._waiting: list[Append] = []
        self._added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="generation log flush")

    async def close(self) -> None:
        """Store what was added before, then stop."""
        self._closing = True
        self._added.set()
        if self._task is not None:
            await self._task

    async def add(self, append: Append) -> None:
        """Returns when it is stored, or raises what kept it from being stored."""
        if self._task is None or self._closing:
            raise LogUnavailable("the generation log is not open")
        self._waiting.append(append)
        self._added.set()  # wakes the task by call_soon: behind everything that is due in this turn of the loop
        await append.stored

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            await self._added.wait()
            self._added.clear()
            appends, self._waiting = self._waiting, []
            # A caller that was cancelled withdraws what has not gone out; a flush itself is never cut short.
            appends = [append for append in appends if not append.stored.cancelled()]
            if appends:
                await self._flush(appends)

    async def _flush(self, appends: list[Append]) -> None:
        try:
            await self._store(appends)
        except Exception as error:
            for append in appends:
                append.resolve(error)
