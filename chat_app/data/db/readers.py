"""A few threads that read one SQLite file, each on a connection of its own. In WAL mode they never wait for the writer.

A read sees every commit that was made before it. It knows no table.
"""

import asyncio
import queue
import sqlite3
import threading
from pathlib import Path

from chat_app.data.db.handoff import Job, T, Work, resolve_all
from chat_app.data.db.sqlite_file import FileClosed, open_file

THREADS = 3


class Readers:
    """`path` must exist by the first read."""

    def __init__(self, path: Path, threads: int = THREADS) -> None:
        self._path = path
        self._count = threads
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._serve, name=f"reader {self._path.name} {n}", daemon=True)
            for n in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Read what was asked for before, then stop."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    async def run(self, work: Work[T]) -> T:
        """Return what `work` returned. Raises `sqlite3.Error`, or `FileClosed` before `start` and after `close`."""
        if not self._threads:
            raise FileClosed
        job = Job(work, self._loop.create_future())
        self._jobs.put(job)
        value: T = await job.answer
        return value

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while (job := self._jobs.get()) is not None:
            if job.answer.cancelled():
                continue
            try:
                connection = connection or self._open()
                job.value = job.work(connection)
            except BaseException as error:
                job.error = error
            try:
                self._loop.call_soon_threadsafe(resolve_all, [job])
            except RuntimeError:  # the event loop is gone, and everybody who waited with it
                break
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = open_file(self._path)
        connection.execute("PRAGMA query_only=ON")
        return connection
