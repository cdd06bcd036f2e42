"""What a killed life leaves behind in this process is cut off from the SQLite files that it had open.

Reaches into `SqliteDatabase` and `SqliteLog`, which have no such door for anybody else.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.db.handoff import Job
from chat_app.data.db.sqlite_file import FileClosed
from chat_app.wiring import Parley


def cut_off(parley: Parley) -> None:
    """From now on nothing of this embedded Parley is written, neither what it asks for later nor what waits for a
    lock. What is committed at this very moment may come through, as it may when a process is killed."""
    database, log = _private(parley)
    for writer in (database._writer, log._writer):
        writer._write = _write_nothing
        writer._attempt = _attempt_nothing
    database.session = _no_session


def _private(parley: Parley) -> tuple[Any, Any]:
    """The database, and the log behind the one that measures it."""
    measured: Any = parley.log
    return parley.db, measured._log


def _write_nothing(_: sqlite3.Connection, group: Sequence[Job]) -> None:
    for job in group:
        job.error = FileClosed()


def _attempt_nothing(_: sqlite3.Connection, job: Job, __: bool) -> None:
    job.error = FileClosed()


def _no_session() -> AbstractAsyncContextManager[Any]:
    raise DatabaseUnavailable("the process is dead")
