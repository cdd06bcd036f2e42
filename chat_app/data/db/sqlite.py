"""SQLite as Parley's database: a writer thread with group commit, reads in the loop or in a few threads, SQLModel
beside them.

The file is in WAL mode with `synchronous=NORMAL`: what was answered survives `kill -9` of every process; a loss
of power may take back the last moments, never the file. It does not know what any table means.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chat_app.data.db.base import Conflict, DatabaseUnavailable, Row, Statement, Unmet, Value
from chat_app.data.db.group_commit import Writer
from chat_app.data.db.inline_reader import InlineReader, TooLong
from chat_app.data.db.orm import unit_of_work
from chat_app.data.db.readers import Readers
from chat_app.data.db.sqlite_file import PATIENCE_S, PRAGMAS, FileClosed, why_unavailable, wipe

SESSIONS = 4

_NAMES = tuple(str(n) for n in range(1, 1_000))
"""SQLite reads `$1` as a parameter that is named "1"."""


class SqliteDatabase:
    """One SQLite file. `path` must have been migrated to head; its directory must exist."""

    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = Writer(path)
        self._inline = InlineReader(path)
        self._readers = Readers(path)
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        try:
            await self._writer.start(_overwriting)
            await self._inline.start()
        except sqlite3.Error as error:
            raise _translated(error) from error
        self._readers.start()
        self._engine = _engine(self._path)

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        await self._writer.close()
        await self._readers.close()
        await self._inline.close()

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        if self._engine is None:
            raise DatabaseUnavailable("the database is not open")
        return unit_of_work(self._engine)

    async def batch(self, *statements: Statement) -> list[list[Row]]:
        try:
            return await self._writer.run(lambda connection: _apply(connection, statements))
        except sqlite3.Error as error:
            raise _translated(error) from error
        except FileClosed:
            raise DatabaseUnavailable("the database is not open") from None

    async def wipe(self) -> None:
        try:
            await asyncio.to_thread(wipe, self._path)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def query(self, sql: str, *params: Value) -> Sequence[Row]:
        def read(connection: sqlite3.Connection) -> list[Row]:
            return _rows(connection.execute(sql, _named(params)))

        try:
            with suppress(TooLong):
                return self._inline.run(sql, read)
            return await self._readers.run(read)
        except sqlite3.Error as error:
            raise _translated(error) from error
        except FileClosed:
            raise DatabaseUnavailable("the database is not open") from None


def _overwriting(connection: sqlite3.Connection) -> None:
    """What is deleted leaves zeros in the file: a deleted chat must not be found there. 30 µs for a prompt of 20 kB."""
    connection.execute("PRAGMA secure_delete=ON")


def _apply(connection: sqlite3.Connection, statements: Sequence[Statement]) -> list[list[Row]]:
    results: list[list[Row]] = []
    for statement in statements:
        # rowcount says nothing about a statement that begins with WITH; the connection's count always does.
        before = connection.total_changes
        rows = _rows(connection.execute(statement.sql, _named(statement.params)))
        if statement.must is not None and not rows and connection.total_changes == before:
            raise Unmet(statement.must)
        results.append(rows)
    return results


def _named(params: tuple[Value, ...]) -> dict[str, Value]:
    for value in params:
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("a text for the database holds a NUL character")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("an integer for the database has more than 64 bits")
    if len(params) > len(_NAMES):
        raise ValueError(f"a statement with {len(params)} parameters: {len(_NAMES)} is the most")
    return dict(zip(_NAMES, params, strict=False))


def _rows(cursor: sqlite3.Cursor) -> list[Row]:
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _translated(error: sqlite3.Error) -> Exception:
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(str(error))
    reason = why_unavailable(error)
    return error if reason is None else DatabaseUnavailable(reason)


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=SESSIONS,
        max_overflow=0,
        pool_timeout=PATIENCE_S,
        connect_args={"timeout": PATIENCE_S},
    )

    # Python's sqlite3 begins a transaction at the first write, so reads before it hold no old snapshot that
    # SQLite would refuse to write on: the same as PostgreSQL's READ COMMITTED.
    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    return engine
