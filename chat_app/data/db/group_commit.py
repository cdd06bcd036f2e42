"""One thread that writes to one SQLite file: the transactions of many callers in one commit.

Whatever waits when the thread comes round becomes one BEGIN IMMEDIATE … COMMIT, each caller's work in a
savepoint of its own, so that what fails undoes only itself. A caller is answered after the commit. It knows no
table.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from pathlib import Path

from chat_app.data.db.handoff import Job, T, Work, resolve_all
from chat_app.data.db.sqlite_file import FileClosed, open_file

GROUP = 256
"""Transactions in one commit, after which no more are taken: bounds how long the first of them waits."""


class Writer:
    """Callers hand in functions of the connection.

    Such a function runs statements, never BEGIN, COMMIT or SAVEPOINT. It may be run a second time, from the
    start, after the first was undone together with the rest of its group.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._coming: list[Job] = []
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None

    async def start(self, prepare: Work[None] | None = None) -> None:
        """Open the file and run `prepare` on it once, outside any transaction. Raises `sqlite3.Error`."""
        self._loop = asyncio.get_running_loop()

        def opened() -> sqlite3.Connection:
            connection = open_file(self._path)
            try:
                if prepare is not None:
                    prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

        self._connection = await asyncio.to_thread(opened)
        self._thread = threading.Thread(
            target=self._serve, args=(self._connection,), name=f"writer {self._path.name}", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Write what was handed in before, then stop."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._hand_over()
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def run(self, work: Work[T]) -> T:
        """Return what `work` returned once it is committed, or raises what it raised once it is undone.

        Raises `sqlite3.Error` where the commit failed, `FileClosed` before `start` and after `close`. A caller
        that is cancelled while its work still waits withdraws it; later than that, it is done all the same.
        """
        if self._thread is None:
            raise FileClosed
        job = Job(work, self._loop.create_future())
        if not self._coming:
            # What this turn of the loop writes goes over together: waking a thread costs more than most writes.
            self._loop.call_soon(self._hand_over)
        self._coming.append(job)
        value: T = await job.answer
        return value

    def _hand_over(self) -> None:
        coming, self._coming = self._coming, []
        for begin in range(0, len(coming), GROUP):
            self._jobs.put(coming[begin : begin + GROUP])

    def _serve(self, connection: sqlite3.Connection) -> None:
        closing = False
        while not closing:
            group: list[Job] = []
            waiting = self._jobs.get()
            while waiting is not None:
                group += waiting
                if len(group) >= GROUP:
                    break
                try:
                    waiting = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                closing = True
            group = [job for job in group if not job.answer.cancelled()]
            if group:
                self._write(connection, group)
                try:
                    self._loop.call_soon_threadsafe(resolve_all, group)
                except RuntimeError:  # the event loop is gone, and everybody who waited with it
                    closing = True
        connection.close()

    def _write(self, connection: sqlite3.Connection, group: list[Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            for job in group:
                job.error = error
            return
        alone = len(group) == 1
        try:
            for job in group:
                self._attempt(connection, job, alone)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk takes the whole transaction back, also from those whose own work was fine.
            _roll_back(connection)
            for job in group:
                if alone:
                    job.error = error
                else:
                    self._write(connection, [job])

    def _attempt(self, connection: sqlite3.Connection, job: Job, alone: bool) -> None:
        """Do one caller's work or undo it whole. Raises only if the transaction itself is lost."""
        if not alone:
            connection.execute("SAVEPOINT job")
        try:
            job.value = job.work(connection)
            job.error = None
        except BaseException as error:
            job.error = error
            if alone:
                _roll_back(connection)
                return
            if not connection.in_transaction:
                raise sqlite3.OperationalError("the transaction was rolled back") from error
            connection.execute("ROLLBACK TO job")
        if not alone:
            connection.execute("RELEASE job")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # it is undone on the next open at the latest
            connection.execute("ROLLBACK")
