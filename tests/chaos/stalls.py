"""Stops a running turn at a certain place, from outside: its rows are locked."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Protocol

import asyncpg

LAST_STEP = "SELECT MAX(seq) FROM step WHERE generation_id = "


class Missed(Exception):
    """The turn was quicker."""


class Stalls(Protocol):
    """For one generation."""

    def rows(self) -> AbstractAsyncContextManager[None]:
        """Nothing of it is committed meanwhile."""
        ...

    def in_the_tool(self) -> AbstractAsyncContextManager[None]:
        """From when the tool's step runs nothing is committed. Raises `Missed`."""
        ...


class OfSqlite:
    """Another program that writes to the files."""

    def __init__(self, home: Path, generation: str) -> None:
        self._home = home
        self._last = f"{LAST_STEP}'{generation}'"

    @asynccontextmanager
    async def rows(self) -> AsyncGenerator[None, None]:
        with closing(self._open("parley.db", 10.0)) as database:
            await asyncio.to_thread(database.execute, "BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")

    @asynccontextmanager
    async def in_the_tool(self) -> AsyncGenerator[None, None]:
        with closing(self._open("parley.db", 0.0)) as database:
            await asyncio.to_thread(self._catch, database)
            yield
            database.execute("ROLLBACK")

    def _catch(self, database: sqlite3.Connection) -> None:
        while True:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                continue  # It is being written to.
            last = database.execute(self._last).fetchone()[0]
            if last == 2:
                return
            database.execute("ROLLBACK")
            if last > 2:
                raise Missed

    def _open(self, file: str, patience_s: float) -> sqlite3.Connection:
        return sqlite3.connect(self._home / file, timeout=patience_s, isolation_level=None, check_same_thread=False)


class OfServers:
    """A session that has locked the row in PostgreSQL."""

    def __init__(self, database: str, generation: str) -> None:
        self._database = database
        self._lock = f"SELECT 1 FROM generation WHERE id = '{generation}' FOR UPDATE"
        self._last = f"{LAST_STEP}'{generation}'"

    @asynccontextmanager
    async def rows(self) -> AsyncGenerator[None, None]:
        async with self._connected() as connection, connection.transaction():
            await connection.execute(self._lock)
            yield

    @asynccontextmanager
    async def in_the_tool(self) -> AsyncGenerator[None, None]:
        async with self._connected() as connection:
            while True:
                held = connection.transaction()
                await held.start()
                await connection.execute(self._lock)
                last = await connection.fetchval(self._last)
                if last == 2:
                    break
                await held.rollback()
                if last > 2:
                    raise Missed
            yield
            await held.rollback()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]", None]:
        connection = await asyncpg.connect(self._database)
        try:
            yield connection
        finally:
            await connection.close()
