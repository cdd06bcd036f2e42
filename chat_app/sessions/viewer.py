"""Following an answer, whoever writes it and wherever.

The entries come from the generation log while it is written. When the generation has ended, they come from its
message, or from what the log still keeps. It does not know who may look: its callers have asked.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from chat_app.data.log.base import GenerationLog, Piece
from chat_app.data.log.entries import Decoder, Entry, decode, text_of
from chat_app.sessions.generations import ENDED, Generations


class Gone(Exception):
    """The answer has ended and its text is not kept any more; `length` is how many characters its log had."""

    def __init__(self, length: int) -> None:
        super().__init__(f"{length} characters are not kept any more")
        self.length = length


@dataclass(frozen=True, slots=True)
class Update:
    """What came next. `offset` is where these entries begin in the log, `next` where a viewer that has them goes on.

    Text comes as it is written; every other entry comes whole. `end` is set on the last one: the final status. One
    without entries and end is a sign of life in a silence.
    """

    offset: int
    entries: tuple[Entry, ...]
    next: int
    end: str | None = None

    @property
    def text(self) -> str:
        """What the answer says in this update."""
        return text_of(self.entries)


class Viewer:
    """Follows answers for pages, SSE clients and unstreamed calls."""

    def __init__(self, log: GenerationLog, generations: Generations) -> None:
        self._log = log
        self._generations = generations

    async def follow(self, generation_id: str, offset: int = 0, *, begun: bool = False) -> AsyncGenerator[Update, None]:
        """The entries from `offset` on, each once, until an update with `end`. `begun`: this process has just begun it.

        Yields nothing for an unknown generation. Raises `Gone`. Close it (`aclosing`) to stop looking; that does not
        stop the answer.
        """
        if not begun:
            status = await self._generations.status(generation_id)
            if status is None:
                return
            if status in ENDED:
                yield await self._ended(generation_id, _Reader(offset), status)
                return
        reader = _Reader(offset)
        async with aclosing(self._log.tail(generation_id)) as tail:
            async for piece in tail:
                end = piece.end
                if not piece.text and end is None:
                    # Silence. Perhaps its owner was killed between the database's commit and the log's last entry:
                    # then nobody will write to the log any more.
                    status = await self._generations.status(generation_id)
                    if status in ENDED:
                        yield await self._ended(generation_id, reader, str(status))
                        return
                elif end is not None:
                    if await self._lost(generation_id, reader, piece):
                        yield await self._ended(generation_id, reader, end)
                    else:
                        yield reader.read(piece.text, end)
                    return
                update = reader.read(piece.text)
                if update.entries or not piece.text:
                    yield update

    async def _lost(self, generation_id: str, reader: "_Reader", last: Piece) -> bool:
        """Whether the log has lost text before this reader had it, so that its last piece is not all that is left."""
        if last.offset > reader.length:
            return True
        if last.offset + len(last.text):
            return False
        # A log that was lost and made anew by its end alone has none of the text.
        return (await self._generations.kept(generation_id)).length > 0

    async def entries(self, generation_id: str) -> list[Entry]:
        """All that there is of the answer now. Raises `Gone`."""
        return decode(await self._all(generation_id))

    async def text(self, generation_id: str) -> str:
        """What the answer says so far. Raises `Gone`."""
        return text_of(await self.entries(generation_id))

    async def _ended(self, generation_id: str, reader: "_Reader", status: str) -> Update:
        return reader.rest(await self._all(generation_id), status)

    async def _all(self, generation_id: str) -> str:
        kept = await self._generations.kept(generation_id)
        if kept.log:
            return kept.log
        log = (await self._log.read(generation_id)).text
        if len(log) < kept.length:
            raise Gone(kept.length)
        return log


class _Reader:
    """Reads a log from its beginning and leaves out what its viewer has: the first `skip` characters."""

    def __init__(self, skip: int) -> None:
        self._decoder = Decoder()
        self._skip = skip
        self.length = 0
        """Characters read so far, whole entries or not."""

    def read(self, piece: str, end: str | None = None) -> Update:
        before = self._decoder.offset
        placed = self._decoder.placed(piece)
        self.length += len(piece)
        entries = self._unseen(placed) if before < self._skip else [entry for _, entry in placed]
        after = max(self._decoder.offset, self._skip)
        return Update(max(before, min(self._skip, after)), tuple(entries), after, end)

    def rest(self, log: str, end: str) -> Update:
        """What is left of the whole log."""
        return self.read(log[self.length :], end)

    def _unseen(self, placed: list[tuple[int, Entry]]) -> list[Entry]:
        """Entries that begin at `skip` or behind it; of text also the part that lies behind it."""
        left: list[Entry] = []
        for offset, entry in placed:
            if offset >= self._skip:
                left.append(entry)
            elif entry.kind == "text" and (text := entry.text[self._skip - offset :]):
                left.append(Entry("text", text))
        return left
