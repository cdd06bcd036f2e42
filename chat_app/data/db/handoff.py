"""Work that an event loop hands to a thread, and its answer on the way back. Cheaper than an executor's futures."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Job:
    """One caller's work on a connection. The thread sets `value` or `error`; `resolve_all` tells the caller."""

    __slots__ = ("answer", "error", "value", "work")

    def __init__(self, work: Work[Any], answer: asyncio.Future[Any]) -> None:
        self.work = work
        self.answer = answer
        self.value: Any = None
        self.error: BaseException | None = None


def resolve_all(jobs: list[Job]) -> None:
    """In the event loop: every caller that still waits gets its answer."""
    for job in jobs:
        if job.answer.done():
            continue
        if job.error is None:
            job.answer.set_result(job.value)
        else:
            job.answer.set_exception(job.error)
