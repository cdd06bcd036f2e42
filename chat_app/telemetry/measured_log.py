"""The generation log with a clock on it: how long storing takes, and how many streams are being followed.

It passes everything on and changes nothing. It does not know which log is behind it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from chat_app.data.log.base import GenerationLog, Piece
from chat_app.telemetry.metrics import FLUSH, VIEWERS


class MeasuredLog:
    """A `GenerationLog` over another one."""

    def __init__(self, log: GenerationLog) -> None:
        self._log = log

    @property
    def durable(self) -> bool:
        return self._log.durable

    async def start(self) -> None:
        await self._log.start()

    async def close(self) -> None:
        await self._log.close()

    async def open(self, generation: str, fence: int, text: str = "") -> str:
        return await self._log.open(generation, fence, text)

    def begin(self, generation: str, fence: int) -> None:
        self._log.begin(generation, fence)

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        begun = time.perf_counter()
        await self._log.append(generation, fence, offset, text)
        FLUSH.observe(time.perf_counter() - begun)

    async def end(self, generation: str, fence: int, status: str) -> None:
        await self._log.end(generation, fence, status)

    async def read(self, generation: str, offset: int = 0) -> Piece:
        return await self._log.read(generation, offset)

    async def tail(self, generation: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        with VIEWERS.track_inprogress():
            async with aclosing(self._log.tail(generation, offset)) as pieces:
                async for piece in pieces:
                    yield piece

    async def request_stop(self, generation: str) -> None:
        await self._log.request_stop(generation)

    def stop_requested(self, generation: str) -> asyncio.Event:
        return self._log.stop_requested(generation)

    async def forget(self, generations: Sequence[str]) -> None:
        await self._log.forget(generations)

    async def sweep(self) -> None:
        await self._log.sweep()

    async def wipe(self) -> None:
        await self._log.wipe()
