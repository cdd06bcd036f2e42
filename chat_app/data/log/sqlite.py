"""The generation log in an SQLite file of its own, for one process that holds the home directory alone.

Every flush is one commit, and what was acknowledged survives `kill -9` (see `db.sqlite_file`). Tails are fed in this
process after the commit, from memory. A closed log's text is past its time an hour after its last write.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from chat_app.data.db.group_commit import Writer
from chat_app.data.db.readers import Readers
from chat_app.data.db.sqlite_file import FileClosed, why_unavailable, wipe
from chat_app.data.ids import now_ms
from chat_app.data.log import sqlite_statements as sql
from chat_app.data.log.base import LogUnavailable, Piece, StaleOwner
from chat_app.data.log.flush import Append, Flusher
from chat_app.data.log.mirror import Mirrors
from chat_app.data.log.stops import Stops

T = TypeVar("T")


class SqliteLog:
    """One file. Its directory must exist."""

    durable = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = Writer(path)
        self._readers = Readers(path, threads=2)
        self._flusher = Flusher(self._store)
        self._mirrors = Mirrors(self.read)
        self._stops = Stops()

    async def start(self) -> None:
        try:
            await self._writer.start(sql.prepare)
        except sqlite3.Error as error:
            raise _translated(error) from error
        self._readers.start()
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()
        self._mirrors.close()
        await self._readers.close()
        await self._writer.close()

    async def open(self, generation: str, fence: int, text: str = "") -> str:
        data = text.encode()
        stop = self._stops.event(generation)  # before the call: no request may fall between it and the event
        try:
            found = await self._write(lambda connection: sql.open_log(connection, generation, fence, text, data))
        except BaseException:
            self._forget_stop(generation)
            raise
        self._mirrors.own(generation, fence, found.text, found.status)
        if found.stop:
            stop.set()
        return found.text

    def begin(self, generation: str, fence: int) -> None:
        self._mirrors.own(generation, fence, "", None).begun = True

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        if text:
            mirror = self._mirrors.get(generation)
            begins = offset == 0 and mirror is not None and mirror.begun and mirror.fence == fence
            await self._flusher.add(Append(generation, fence, offset, text, text.encode(), begins=begins))

    async def end(self, generation: str, fence: int, status: str) -> None:
        try:
            await self._flusher.add(Append(generation, fence, 0, "", b"", status))
        except LogUnavailable:
            self._disown(generation, fence)
            raise

    async def read(self, generation: str, offset: int = 0) -> Piece:
        try:
            return await self._readers.run(lambda connection: sql.read(connection, generation, offset))
        except sqlite3.Error as error:
            raise _translated(error) from error
        except FileClosed:
            raise LogUnavailable("the generation log is not open") from None

    def tail(self, generation: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        return self._mirrors.tail(generation, offset)

    async def request_stop(self, generation: str) -> None:
        self._stops.request(generation)
        await self._write(lambda connection: sql.request_stop(connection, generation))

    def stop_requested(self, generation: str) -> asyncio.Event:
        return self._stops.event(generation)

    async def forget(self, generations: Sequence[str]) -> None:
        await self._write(lambda connection: sql.forget(connection, generations))

    async def sweep(self) -> None:
        await self._write(lambda connection: sql.sweep(connection, now_ms()))

    async def wipe(self) -> None:
        try:
            await asyncio.to_thread(wipe, self._path)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def _store(self, appends: list[Append]) -> None:
        results = await self._write(lambda connection: sql.store(connection, appends))
        for append, result in zip(appends, results, strict=True):
            if isinstance(result, sql.Stored):
                if result.stop:
                    self._stops.request(append.generation)
                self._mirrors.stored(append, result.offset)
            if append.status is not None or isinstance(result, StaleOwner):
                self._disown(append.generation, append.fence)
            append.resolve(None if isinstance(result, sql.Stored) else result)

    def _disown(self, generation: str, fence: int) -> None:
        if self._mirrors.disown(generation, fence):
            self._forget_stop(generation)

    def _forget_stop(self, generation: str) -> None:
        mirror = self._mirrors.get(generation)
        if mirror is None or mirror.fence is None:
            self._stops.forget(generation)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._writer.run(work)
        except sqlite3.Error as error:
            raise _translated(error) from error
        except FileClosed:
            raise LogUnavailable("the generation log is not open") from None


def _translated(error: sqlite3.Error) -> Exception:
    reason = why_unavailable(error)
    return error if reason is None else LogUnavailable(f"the generation log cannot be used: {reason}")
