"""Log writers over a database that only remembers what it was asked to save."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from chat_app.data.db.base import Statement
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.entries import Entry
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.log_writer import LogWriter
from tests.data.logs import watch
from tests.sessions.rows import row

WORDS = [f"wörd{n:03} " for n in range(60)]


WHOLE = "".join(WORDS)


@dataclass
class Saved:
    """The database and its generations: what was saved, and what it refuses next."""

    streaming_since: list[int | None] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    writes: int = 0
    refusal: Exception | None = None

    def streaming(self, _row: GenerationRow, first_token_at: int | None) -> Statement:
        return Statement("streaming", (first_token_at,), must="owner")

    def checkpoint(self, _row: GenerationRow, start: int, text: str) -> Statement:
        return Statement("checkpoint", (start, text), must="owner")

    async def checkpointed(self, _id: str) -> str:
        return "".join(text for _, text in sorted(self.checkpoints.items()))

    async def batch(self, *statements: Statement) -> list[Any]:
        self.writes += 1
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        for statement in statements:
            match statement.params:
                case (int(start), str(text)):
                    self.checkpoints[start] = text
                case (since,):
                    self.streaming_since.append(since)  # type: ignore[arg-type]
        return []


def writer_of(log: GenerationLog, saved: Saved | None = None, fence: int = 1) -> LogWriter:
    saved = saved or Saved()
    return LogWriter(log, saved, saved, replace(row(), fence=fence))  # type: ignore[arg-type]


def text(*words: str) -> list[Entry]:
    return [Entry("text", word) for word in words]


async def seen_by(*logs: GenerationLog) -> list[asyncio.Task[tuple[str, str, int]]]:
    tasks = [asyncio.create_task(watch(log, "g")) for log in logs]
    await asyncio.sleep(0.05)
    return tasks


async def all_see(viewers: list[asyncio.Task[tuple[str, str, int]]], whole: str, end: str = "done") -> None:
    for viewer in viewers:
        assert (await asyncio.wait_for(viewer, 30))[:2] == (whole, end)


async def write_all(writer: LogWriter, words: list[str] = WORDS) -> None:
    for word in words:
        await writer.write(*text(word))
