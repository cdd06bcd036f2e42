"""Following an answer, whoever writes it and wherever.

The entries come from the generation log while it is written. When the generation has ended, they come from its
message, or from what the log still keeps. It does not know who may look: its callers have asked.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.log.base import GenerationLog, LogUnavailable, Piece
from chat_app.data.log.entries import Decoder, Entry, decode, encode
from chat_app.sessions.generations import ENDED, Generations

AWAY = (DatabaseUnavailable, LogUnavailable)
PATIENCE_S = 10.0
"""How long at most stores that are away are waited for at the end of a log that has not all of the answer."""


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
        Raises `DatabaseUnavailable` and `LogUnavailable` at its beginning; once it tails the log, only where they keep
        it from the answer's end for `PATIENCE_S`, or when the log is closed.
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
                if piece.end is not None:
                    yield await self._last(generation_id, reader, piece, piece.end)
                    return
                if not piece.text and (rest := await self._rest(generation_id, reader)) is not None:
                    yield rest
                    return
                update = reader.read(piece.text)
                if update.entries or not piece.text:
                    yield update

    async def _rest(self, generation_id: str, reader: "_Reader") -> Update | None:
        """In a silence of the log: the rest of the answer if it has ended all the same.

        Perhaps its owner was killed between the database's commit and the log's last entry: then nobody will write to
        the log any more.
        """
        try:
            status = await self._generations.status(generation_id)
            return await self._ended(generation_id, reader, str(status)) if status in ENDED else None
        except AWAY:  # No news. The answer goes on without them, and the log's next silence is another occasion.
            return None

    async def _last(self, generation_id: str, reader: "_Reader", last: Piece, end: str) -> Update:
        """What there is with the log's end. Raises what `AWAY` names after `PATIENCE_S`."""
        lost = last.offset > reader.length  # Text was lost before this reader had it: the last piece is not all.
        if not lost and last.offset + len(last.text):
            return reader.read(last.text, end)
        # A log that was lost and made anew by its end alone has none of the text: whether there was any is read too.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.1),
            stop=stop_after_delay(PATIENCE_S),
            reraise=True,
        )
        return await retrying(self._ended, generation_id, reader, end)

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
