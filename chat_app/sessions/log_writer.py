"""The log writer: how the owner of a generation writes its log, and keeps writing when the log's store falters.

Only the owner has one. It remembers all that it has written: a log that lost its memory (a restarted Valkey) is
restored from it, and an append whose acknowledgement was lost is settled by comparing with it. Where the log alone is
not durable it saves to the database, every second, what is new. It does not know where the entries come from.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from chat_app.data.db.base import Database, DatabaseUnavailable, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog, LogUnavailable, StaleOwner, WrongOffset
from chat_app.data.log.entries import Entry, decode, encode, text_of
from chat_app.sessions.generations import GenerationRow, Generations

T = TypeVar("T")
CHECKPOINT_S = 1.0
"""How often the database gets what is new; an answer that ends sooner costs it nothing."""
PATIENCE_S = 30.0
"""How long a log that takes nothing is waited for before the answer is given up for now."""


class LogWriter:
    """Writes one generation's log; one call at a time."""

    def __init__(self, log: GenerationLog, db: Database, generations: Generations, row: GenerationRow) -> None:
        self._store = log
        self._db = db
        self._generations = generations
        self._row = row
        self._parts: list[str] = []
        self._length = 0
        self._unsettled = ""
        """What a write that failed or was cancelled may have stored or not."""
        self._saved = 0
        self._noted = False
        self._checkpoint_at: float | None = None
        self.entries: list[Entry] = []
        """All entries written so far, earlier owners' too."""
        self.first_token_at = row.first_token_at
        """When the first text, reasoning or tool call was stored, in milliseconds since 1970."""

    @property
    def log(self) -> str:
        """The whole log as it is stored."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def text(self) -> str:
        """What the answer says so far."""
        return text_of(self.entries)

    async def open(self) -> None:
        """Become the writer under the row's fence, behind what earlier owners wrote.

        Raises `StaleOwner`, `LogUnavailable`, `DatabaseUnavailable`.
        """
        if self._row.fresh:  # nobody can have written anything yet
            self._store.begin(self._row.id, self._row.fence)
            return
        known = "" if self._store.durable else await self._generations.checkpointed(self._row.id)
        log = await self._patiently(self._open, known)
        self._parts, self._length, self._saved = [log], len(log), len(known)
        self.entries = decode(log)

    async def write(self, *entries: Entry) -> None:
        """Store entries behind what is there, all or none; returns when viewers may see them.

        Raises `StaleOwner`, and `LogUnavailable` once the patience is over. Whether that one, or one that was
        cancelled, has been stored is settled by the next write; `entries` then has it if it was.
        """
        piece = encode(entries)
        if not piece:
            return
        if self._unsettled:
            await self._patiently(self._settle)
        self._unsettled = piece
        try:
            await self._store.append(self._row.id, self._row.fence, self._length, piece)
        except (WrongOffset, LogUnavailable):
            await self._patiently(self._append_again, piece)
        self._wrote(piece, entries)
        now = time.monotonic()
        if self._checkpoint_at is None:
            self._checkpoint_at = now + CHECKPOINT_S
        elif now >= self._checkpoint_at:
            await self._checkpoint(now)

    async def end(self, status: str) -> None:
        """Close the log with the generation's final status. Raises `StaleOwner`, `LogUnavailable`."""
        try:
            await self._store.end(self._row.id, self._row.fence, status)
        except LogUnavailable:
            await self._patiently(self._end_again, status)

    async def _patiently(self, step: Callable[..., Awaitable[T]], *args: str) -> T:
        """Off the hot path: repeat a step, which opens the log first, until it succeeds or the patience is over."""
        retrying = AsyncRetrying(
            stop=stop_after_delay(PATIENCE_S),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            retry=retry_if_exception_type((WrongOffset, LogUnavailable)),
            reraise=True,
        )
        try:
            return await retrying(step, *args)
        except WrongOffset as error:
            raise LogUnavailable("the generation log keeps losing its text") from error

    async def _open(self, text: str) -> str:
        return await self._store.open(self._row.id, self._row.fence, text)

    async def _append_again(self, piece: str) -> None:
        """Append what may have been stored already. The log was written by somebody else if it holds anything else."""
        stored = await self._open(self.log)
        if stored == self.log:
            await self._store.append(self._row.id, self._row.fence, self._length, piece)
        elif stored != self.log + piece:
            raise StaleOwner

    async def _settle(self) -> None:
        """Find out whether a write that failed or was cancelled has been stored."""
        stored = await self._open(self.log)
        if stored == self.log + self._unsettled:
            self._wrote(self._unsettled, decode(self._unsettled))
        elif stored != self.log:
            raise StaleOwner
        self._unsettled = ""

    async def _end_again(self, status: str) -> None:
        await self._open(self.log)
        await self._store.end(self._row.id, self._row.fence, status)

    def _wrote(self, piece: str, entries: Iterable[Entry]) -> None:
        self._parts.append(piece)
        self._length += len(piece)
        self._unsettled = ""
        self.entries.extend(entries)
        if self.first_token_at is None and any(entry.kind not in ("status", "sealed") for entry in entries):
            self.first_token_at = now_ms()

    async def _checkpoint(self, now: float) -> None:
        """Note once in the row that it streams; save what is new where the log is not durable."""
        statements = [] if self._noted else [self._generations.streaming(self._row, self.first_token_at)]
        if not self._store.durable:
            statements.append(self._generations.checkpoint(self._row, self._saved, self.log[self._saved :]))
        self._checkpoint_at = now + CHECKPOINT_S
        try:
            await self._db.batch(*statements)
        except Unmet as error:
            raise StaleOwner from error
        except DatabaseUnavailable:
            return  # the log has it; the next checkpoint begins where this one did
        self._noted, self._saved = True, self._length
        if self._store.durable:
            self._checkpoint_at = inf
