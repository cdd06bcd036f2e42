"""Following an answer, whoever writes it and wherever.

The generation log gives the text while it is written. When the generation has ended, the text comes from its message,
or from what the log still keeps. It does not know who may look: its callers have asked.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from chat_app.data.log.base import GenerationLog, Piece
from chat_app.sessions.generations import ENDED, Generations

DOUBT_S = 3.0
"""Silence after which the row is asked whether the answer ended without a word in the log (its owner was killed
between the database's commit and the log's last entry)."""


class Viewer:
    """Reads answers for pages, SSE clients and unstreamed calls."""

    def __init__(self, log: GenerationLog, generations: Generations) -> None:
        self._log = log
        self._generations = generations

    async def follow(self, generation_id: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        """The text from `offset` (characters) on, each character once, until a piece with `end`.

        Yields nothing for an unknown generation. Close it (`aclosing`) to stop looking; that does not stop the answer.
        """
        status = await self._generations.status(generation_id)
        if status is None:
            return
        if status in ENDED:
            yield await self._rest(generation_id, offset, status)
            return
        async with aclosing(self._log.tail(generation_id, offset)) as tail:
            coming = asyncio.ensure_future(anext(tail, None))
            try:
                while True:
                    await asyncio.wait({coming}, timeout=DOUBT_S)
                    if not coming.done():
                        status = await self._generations.status(generation_id)
                        if status not in ENDED:
                            continue
                        # Settled, but the log was not told: nobody will write to it any more.
                        yield await self._rest(generation_id, offset, str(status))
                        return
                    piece = coming.result()
                    if piece is None:
                        return
                    offset = piece.offset + len(piece.text)
                    yield piece
                    if piece.end is not None:
                        return
                    coming = asyncio.ensure_future(anext(tail, None))
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def text(self, generation_id: str) -> str:
        """All that there is of the answer now."""
        stored = await self._generations.content(generation_id)
        return stored or (await self._log.read(generation_id)).text

    async def _rest(self, generation_id: str, offset: int, status: str) -> Piece:
        return Piece(offset, (await self.text(generation_id))[offset:], status)
