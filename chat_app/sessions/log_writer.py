"""The log writer (stand-in until the log branch is merged)."""

import time

from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.entries import Entry, decode, encode, text_of
from chat_app.sessions.generations import GenerationRow, Generations


class LogWriter:
    def __init__(self, log: GenerationLog, db: Database, generations: Generations, row: GenerationRow) -> None:
        self._log = log
        self._db = db
        self._generations = generations
        self._row = row
        self.log = ""
        self.first_token_at: int | None = row.first_token_at
        self._noted = 0.0

    @property
    def entries(self) -> list[Entry]:
        return decode(self.log)

    @property
    def text(self) -> str:
        return text_of(self.entries)

    async def open(self) -> None:
        known = await self._generations.checkpointed(self._row.id) if not self._log.durable else ""
        self.log = await self._log.open(self._row.id, self._row.fence, known)

    async def write(self, *entries: Entry) -> None:
        piece = encode(entries)
        if not piece:
            return
        await self._log.append(self._row.id, self._row.fence, len(self.log), piece)
        if not self._log.durable and time.monotonic() - self._noted > 1:
            await self._db.batch(self._generations.checkpoint(self._row, len(self.log), piece))
            self._noted = time.monotonic()
        self.log += piece
        if self.first_token_at is None and any(entry.kind in ("text", "reasoning") for entry in entries):
            self.first_token_at = now_ms()
