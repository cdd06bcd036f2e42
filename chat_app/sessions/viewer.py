"""Following an answer, whoever writes it and wherever.

The entries come from the generation log while it is written. When the generation has ended, they come from its
message, or from what the log still keeps. It does not know who may look: its callers have asked.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate

from chat_app.data.log.base import GenerationLog, Piece
from chat_app.data.log.entries import Decoder, Entry, decode, encode
from chat_app.sessions.generations import ENDED, Generations


class Gone(Exception):
    """The answer has ended and its text is not kept any more; says so to a person. `log_length` is how many characters
    its log had: those of its text, and of the frames around all else that it was."""

    def __init__(self, log_length: int) -> None:
        super().__init__(f"The text of this answer is not kept any more; its log had {log_length:,} characters.")
        self.log_length = log_length


class BadOffset(Exception):
    """No entry begins at the offset from which somebody wants to follow; says why, for a sentence's end."""


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
    def places(self) -> Sequence[int | None]:
        """Where a viewer goes on behind each entry. None before the last where entries were left out between them,
        of a kind that only a newer release knows."""
        if len(self.entries) == 1:  # As nearly always: this is the hot path.
            return [self.next]
        sizes = [len(encode((entry,))) for entry in self.entries]
        if self.offset + sum(sizes) == self.next:
            return list(accumulate(sizes, initial=self.offset))[1:]
        return [*([None] * (len(sizes) - 1)), *([self.next] if sizes else [])]


class Viewer:
    """Follows answers for pages, SSE clients and unstreamed calls."""

    def __init__(self, log: GenerationLog, generations: Generations) -> None:
        self._log = log
        self._generations = generations

    async def follow(self, generation_id: str, offset: int = 0, *, begun: bool = False) -> AsyncGenerator[Update, None]:
        """The entries from `offset` on, each once, until an update with `end`. `begun`: this process has just begun it.

        Yields nothing for an unknown generation. Raises `Gone`, and `BadOffset` once the log has shown it to be one.
        Close it (`aclosing`) to stop looking; that does not stop the answer.
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
        log, _ = await self._all(generation_id)
        return decode(log)

    async def _ended(self, generation_id: str, reader: "_Reader", status: str) -> Update:
        log, whole = await self._all(generation_id)
        return reader.rest(log, status, whole)

    async def _all(self, generation_id: str) -> tuple[str, bool]:
        """The log as far as it is kept, and whether that is all of it: with a message its last seal is not."""
        kept = await self._generations.kept(generation_id)
        if kept.log:
            return kept.log, False
        log = (await self._log.read(generation_id)).text
        if len(log) < kept.length:
            raise Gone(kept.length)
        return log, True


class _Reader:
    """Reads a log from its beginning and leaves out what its viewer has: the first `skip` characters.

    Raises `BadOffset` where those do not end between entries or within text.
    """

    def __init__(self, skip: int) -> None:
        self._decoder = Decoder()
        self._skip = skip
        self.length = 0
        """Characters read so far, whole entries or not."""

    def read(self, piece: str, end: str | None = None, *, whole: bool = True) -> Update:
        """What comes next; `whole`: with `end` it is known that nothing comes behind it."""
        if self.length < self._skip:
            piece = self._skipped(piece)
            if self.length < self._skip:
                if end is not None and whole:
                    raise BadOffset(f"is behind the end of this answer, whose log has {self.length:,} characters")
                return Update(self._skip, (), self._skip, end)
        before = self._decoder.offset
        self.length += len(piece)
        return Update(before, tuple(self._decoder.feed(piece)), self._decoder.offset, end)

    def rest(self, log: str, end: str, whole: bool) -> Update:
        """What is left of a log that has ended."""
        return self.read(log[self.length :], end, whole=whole)

    def _skipped(self, piece: str) -> str:
        """The piece without what its viewer has."""
        missing = self._skip - self.length
        seen, left = piece[:missing], piece[missing:]
        self._decoder.feed(seen)
        self.length += len(seen)
        if self.length == self._skip and not self._decoder.between:
            raise BadOffset("is inside an entry that is not text; go on from an event's id")
        return left
