"""The pen: how the owner of a generation writes its text, and keeps writing when the log's store falters.

Only the owner holds one. It remembers all text it has written, so that a log that lost its memory (a restarted
Valkey) is restored from it, and it checkpoints to the database every second where the log alone is not durable.
It does not know where the text comes from.
"""

import asyncio
import time

from chat_app.data.db.base import Database, DatabaseUnavailable, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog, LogUnavailable, StaleOwner, WrongOffset
from chat_app.sessions.generations import Generations, Job

CHECKPOINT_S = 1.0
PATIENCE_S = 30.0
"""How long a log that takes nothing is waited for before the answer is given up for now."""


class Pen:
    """Writes one generation's text. `text` is all that is stored, from the first character on."""

    def __init__(self, log: GenerationLog, db: Database, generations: Generations, job: Job) -> None:
        self._log = log
        self._db = db
        self._generations = generations
        self._job = job
        self._checkpointed = 0.0
        self._noted = False
        self.text = ""
        self.first_token_at: int | None = None

    async def open(self) -> None:
        """Take the log under this job's fence; `text` is then what earlier owners wrote. Raises `StaleOwner`."""
        self.text = await self._patiently_open(self._job.checkpoint)
        self._noted = bool(self.text)

    async def write(self, text: str) -> None:
        """Store text behind what is there; returns when viewers may see it. Raises `StaleOwner`, `LogUnavailable`."""
        if not text:
            return
        deadline = time.monotonic() + PATIENCE_S
        pause = 0.05
        while True:
            try:
                await self._log.append(self._job.id, self._job.fence, len(self.text), text)
                break
            except WrongOffset as error:
                if error.length > len(self.text):  # An answer to an append got lost: it was stored after all.
                    stored = (await self._log.read(self._job.id)).text
                    if stored != self.text + text:
                        raise StaleOwner from error
                    break
                await self._patiently_open(self.text)
            except LogUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
        if self.first_token_at is None:
            self.first_token_at = now_ms()
        self.text += text
        await self._note()

    async def _patiently_open(self, text: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self._log.open(self._job.id, self._job.fence, text)
            except LogUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def _note(self) -> None:
        """Tell the row that text flows: once where the log is durable, else every second with the text."""
        now = time.monotonic()
        if self._noted and (self._log.durable or now - self._checkpointed < CHECKPOINT_S):
            return
        text = None if self._log.durable else self.text
        try:
            await self._db.batch(self._generations.streaming(self._job, text, self.first_token_at))
        except Unmet as error:
            raise StaleOwner from error
        except DatabaseUnavailable:
            return  # The log has the text; the next checkpoint tries again.
        self._noted, self._checkpointed = True, now
