"""Short reads of one SQLite file in the event loop's own thread: a few rows cost less to read than to ask a thread for.

A row by its key takes some 10 µs; the way to a thread and back takes 80 µs, most of them in the kernel and waiting for
the interpreter's lock. What turns out to be long is broken off, and a thread does it from then on. It knows no table.
"""

import asyncio
import sqlite3
import time
from pathlib import Path

from chat_app.data.db.handoff import T, Work
from chat_app.data.db.sqlite_file import open_file

STEPS = 1_000
"""Instructions of SQLite's machine after which a read is long, twice as many at most: some 50 µs."""
LONG_S = 0.001
"""What takes more is long, however few its instructions are: a whole search may be one of them."""
AVOIDED_S = 60.0
"""How long a query that was long is left to the threads before it is tried here again."""
MOST_AVOIDED = 1_000

_ELSEWHERE = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


class TooLong(Exception):
    """This read belongs into a thread. Nothing of it has been done."""


class InlineReader:
    """One connection that only the event loop uses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._avoided: dict[str, float] = {}
        self._late: set[str] = set()
        self._overruns = 0

    async def start(self) -> None:
        """Open the file. Raises `sqlite3.Error`."""
        self._connection = await asyncio.to_thread(self._open)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(connection.close)

    def run(self, sql: str, work: Work[T]) -> T:
        """Return what `work` returns. `sql` is what it reads by: its name among those that were long.

        Raises `TooLong` if that is for a thread to do, or `sqlite3.Error`.
        """
        if self._connection is None or (self._avoided and self._avoided.get(sql, 0.0) > time.monotonic()):
            raise TooLong
        self._overruns = 0
        # Once late, it may have been the machine that was busy. Then its CPU time decides, which costs more to look at.
        clock = time.thread_time if sql in self._late else time.monotonic
        begun = clock()
        try:
            value = work(self._connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _ELSEWHERE:
                raise
            self._avoid(sql)
            raise TooLong from None
        late = clock() - begun > LONG_S
        if clock is time.thread_time:
            self._late.discard(sql)
            if late:
                self._avoid(sql)
        elif late:
            self._late.add(sql)
        return value

    def _avoid(self, sql: str) -> None:
        if len(self._avoided) >= MOST_AVOIDED:
            self._avoided.clear()
        self._avoided[sql] = time.monotonic() + AVOIDED_S

    def _open(self) -> sqlite3.Connection:
        connection = open_file(self._path, patience_s=0)
        connection.execute("PRAGMA query_only=ON")
        connection.set_progress_handler(self._overran, STEPS)
        return connection

    def _overran(self) -> bool:
        # A prepared statement counts on from its last run: the first time may come at once, the second may not.
        self._overruns += 1
        return self._overruns > 1
