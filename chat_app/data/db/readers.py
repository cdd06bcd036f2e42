"""A few threads that read one SQLite file, each on a connection of its own. In WAL mode they never wait for the writer.

A read sees every commit that was made before it. It knows no table.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from chat_app.data.db.sqlite_file import FileClosed, open_file

T = TypeVar("T")
THREADS = 3


class Readers:
    """`path` must exist by the first read."""

    def __init__(self, path: Path, threads: int = THREADS) -> None:
        self._path = path
        self._count = threads
        self._threads: ThreadPoolExecutor | None = None
        self._of_thread = threading.local()
        self._open: list[sqlite3.Connection] = []

    def start(self) -> None:
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix=f"reader {self._path.name}")

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        while self._open:
            self._open.pop().close()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Answers what `work` returned. Raises `sqlite3.Error`, or `FileClosed` before `start` and after `close`."""
        if self._threads is None:
            raise FileClosed
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = open_file(self._path)
            connection.execute("PRAGMA query_only=ON")
            self._of_thread.connection = connection
            self._open.append(connection)
        return work(connection)
