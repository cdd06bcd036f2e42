"""What Parley asks of an SQL database, whichever it is.

Two ways in. `session()` is SQLModel for ordinary pages. `batch()` and `query()` are prepared SQL for the hot
path (hold, settle, the generation row), written once in the subset that SQLite and PostgreSQL share:
`$1…$n` parameters, `ON CONFLICT`, `RETURNING`. It does not know what any table means.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

Row = Mapping[str, Any]
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Statement:
    """One prepared statement. With `must`, it has to touch or return a row, else the whole batch is undone."""

    sql: str
    params: tuple[Value, ...] = ()
    must: str | None = None


class Unmet(Exception):
    """A statement with `must` touched no row; the batch that held it left no trace. `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Conflict(Exception):
    """A rule of the schema (unique, foreign key, not null, check) refused it. No trace of it is left."""


class DatabaseUnavailable(Exception):
    """The database cannot take this now: locked past the patience, disk full, or gone. Nothing was written.

    The message says why in words that a person may read.
    """


class OutcomeUnknown(DatabaseUnavailable):
    """The server was lost while it committed: all of it was written, or nothing. Look before you repeat."""


class Database(Protocol):
    """An SQL database that has been migrated to head."""

    dialect: Literal["sqlite", "postgresql"]

    async def start(self) -> None:
        """Open the pools. Raises `DatabaseUnavailable`."""
        ...

    async def close(self) -> None: ...

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A unit of work for ordinary pages: commits when the block ends well, rolls back when it raises.

        Raises `Conflict` or `DatabaseUnavailable`. From its first write to its end it holds locks (on SQLite
        the only one there is), so await nothing else in between.
        """
        ...

    async def batch(self, *statements: Statement) -> list[list[Row]]:
        """Run all in one transaction; returns the rows of each statement (none without RETURNING).

        Raises `Unmet`, `Conflict` or `DatabaseUnavailable` (nothing written), `OutcomeUnknown` (see there), and
        on either database `ValueError` for text that PostgreSQL cannot hold (NUL, lone surrogates).
        """
        ...

    async def wipe(self) -> None:
        """Remove what was deleted from the files too, as far as Parley can: SQLite's, write-ahead log included, unless
        somebody reads or writes in them for long. Raises `DatabaseUnavailable`."""
        ...

    async def query(self, sql: str, *params: Value) -> Sequence[Row]:
        """The rows of one read, which sees every batch that has returned."""
        ...
