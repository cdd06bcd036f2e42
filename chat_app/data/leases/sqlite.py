"""Leases in an SQLite file, for one process that holds the home directory alone.

What the file is for is the fencing numbers, which rise across restarts. Leases themselves do not outlive the process
that took them: since the home directory is held, whoever is named in the file at the start is dead.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from chat_app.data.db.group_commit import Writer
from chat_app.data.db.sqlite_file import FileClosed, why_unavailable
from chat_app.data.ids import now_ms
from chat_app.data.leases.base import LeasesUnavailable

T = TypeVar("T")

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS lease"
    " (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO fence (id, last) VALUES (1, 0)",
)


class SqliteLeases:
    """One file. Its directory must exist."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path)

    async def start(self) -> None:
        try:
            await self._writer.start(_prepare)
        except sqlite3.Error as error:
            raise _translated(error) from error
        await self.clear()

    async def close(self) -> None:
        await self._writer.close()

    async def clear(self) -> None:
        """Give back every lease. The fencing numbers go on."""
        await self._run(lambda connection: connection.execute("DELETE FROM lease").rowcount)

    async def acquire(self, name: str, owner: str, ttl_ms: int, floor: int = 0) -> int | None:
        return await self._run(lambda connection: _acquire(connection, name, owner, ttl_ms, floor))

    async def renew(self, names: Sequence[str], owner: str, ttl_ms: int) -> set[str]:
        return await self._run(lambda connection: _renew(connection, names, owner, ttl_ms))

    async def release(self, name: str, owner: str) -> None:
        await self._run(
            lambda connection: (
                connection.execute("DELETE FROM lease WHERE name = ? AND owner = ?", (name, owner)).rowcount
            )
        )

    async def held(self, names: Sequence[str]) -> set[str]:
        return await self._run(lambda connection: _held(connection, names))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._writer.run(work)
        except sqlite3.Error as error:
            raise _translated(error) from error
        except FileClosed:
            raise LeasesUnavailable("the leases are not open") from None


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)


def _acquire(connection: sqlite3.Connection, name: str, owner: str, ttl_ms: int, floor: int) -> int | None:
    now = now_ms()
    taken = connection.execute(
        "INSERT INTO lease (name, owner, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE"
        " SET owner = ?2, expires_at = ?3 WHERE owner = ?2 OR expires_at <= ?4",
        (name, owner, now + ttl_ms, now),
    ).rowcount
    if not taken:
        return None
    row = connection.execute("UPDATE fence SET last = max(last, ?) + 1 RETURNING last", (floor,)).fetchall()
    return int(row[0][0])


def _renew(connection: sqlite3.Connection, names: Sequence[str], owner: str, ttl_ms: int) -> set[str]:
    now = now_ms()
    return {
        name
        for name in names
        if connection.execute(
            "UPDATE lease SET expires_at = ? WHERE name = ? AND owner = ? AND expires_at > ?",
            (now + ttl_ms, name, owner, now),
        ).rowcount
    }


def _held(connection: sqlite3.Connection, names: Sequence[str]) -> set[str]:
    now = now_ms()
    find = "SELECT 1 FROM lease WHERE name = ? AND expires_at > ?"
    return {name for name in names if connection.execute(find, (name, now)).fetchone()}


def _translated(error: sqlite3.Error) -> Exception:
    reason = why_unavailable(error)
    return error if reason is None else LeasesUnavailable(f"the leases cannot be used: {reason}")
