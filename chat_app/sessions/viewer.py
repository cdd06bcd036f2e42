"""Following an answer, whoever writes it and wherever.

The generation log gives the text while it is written. When the generation has ended, the text comes from its message,
or from what the log still keeps. It does not know who may look: its callers have asked.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from chat_app.data.log.base import GenerationLog, Piece
from chat_app.sessions.generations import ENDED, Generations


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
            async for piece in tail:
                if not piece.text and piece.end is None:
                    # Silence. Perhaps its owner was killed between the database's commit and the log's last entry:
                    # then nobody will write to the log any more.
                    status = await self._generations.status(generation_id)
                    if status not in ENDED:
                        continue
                    piece = await self._rest(generation_id, offset, str(status))
                offset = piece.offset + len(piece.text)
                yield piece
                if piece.end is not None:
                    return

    async def text(self, generation_id: str) -> str:
        """All that there is of the answer now."""
        stored = await self._generations.content(generation_id)
        return stored or (await self._log.read(generation_id)).text

    async def _rest(self, generation_id: str, offset: int, status: str) -> Piece:
        return Piece(offset, (await self.text(generation_id))[offset:], status)
