"""PostgreSQL as Parley's database: prepared statements through asyncpg on the hot path, SQLModel beside them.

Transactions are READ COMMITTED: write conditions into the statement that changes the row (`UPDATE … WHERE`),
as PostgreSQL looks at them again after it has waited for another's lock. An untyped parameter (`SELECT $1`) needs
a CAST. It does not know what any table means.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar

import asyncpg as untyped
import orjson
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chat_app.data.db.base import Conflict, DatabaseUnavailable, OutcomeUnknown, Row, Statement, Unmet, Value
from chat_app.data.db.merge import ROWS, UNMET, groups, merged
from chat_app.data.db.orm import LOST, unit_of_work, why_not_now

asyncpg: Any = untyped
T = TypeVar("T")

CONNECTIONS = 10
SESSIONS = 5
PATIENCE_S = 5.0
"""How long to wait for a free connection, for a lock, or for the server to take a connection."""
ATTEMPTS = 5


class PostgresDatabase:
    """One PostgreSQL database, migrated to head. `url` begins with postgresql:// or postgres://."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, url: str) -> None:
        self._dsn = plain_dsn(url)
        self._pool: Any = None
        self._engine: AsyncEngine | None = None
        self._returning: dict[str, bool] = {}
        """Which statements with a condition return rows, by their text."""

    async def start(self) -> None:
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=CONNECTIONS,
                statement_cache_size=512,
                reset=_nothing_to_reset,
                **connect_options(),
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(self._dsn),
            pool_size=SESSIONS,
            max_overflow=0,
            pool_timeout=PATIENCE_S,
            pool_pre_ping=True,
        )

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        if self._engine is None:
            raise DatabaseUnavailable("the database is not open")
        return unit_of_work(self._engine)

    async def batch(self, *statements: Statement) -> list[list[Row]]:
        for statement in statements:
            for value in statement.params:
                if isinstance(value, str) and "\x00" in value:
                    raise ValueError("a text for the database holds a NUL character")
        match groups(statements):
            case [[statement]]:
                return await self._attempts(lambda fate: self._one(statement, fate))
            case [run]:
                return await self._attempts(lambda fate: self._together(run, fate))
            case runs:
                return await self._attempts(lambda fate: self._all(runs, fate))

    async def wipe(self) -> None:
        """Its vacuum does."""

    async def query(self, sql: str, *params: Value) -> Sequence[Row]:
        [rows] = await self._attempts(lambda _: self._one(Statement(sql, params), _Fate()))
        return rows

    async def _one(self, statement: Statement, fate: "_Fate") -> list[list[Row]]:
        async with self._acquire() as connection:
            # A statement alone is a transaction of its own: two round trips less.
            fate.sealing = True
            rows = await self._run(connection, statement)
        return [rows]

    async def _together(self, run: Sequence[Statement], fate: "_Fate") -> list[list[Row]]:
        async with self._acquire() as connection:
            fate.sealing = True
            return await self._run_merged(connection, run)

    async def _all(self, runs: Sequence[Sequence[Statement]], fate: "_Fate") -> list[list[Row]]:
        results: list[list[Row]] = []
        async with self._acquire() as connection, connection.transaction():
            for run in runs:
                if len(run) == 1:
                    results.append(await self._run(connection, run[0]))
                else:
                    results += await self._run_merged(connection, run)
            fate.sealing = True
        return results

    async def _run_merged(self, connection: Any, run: Sequence[Statement]) -> list[list[Row]]:
        """Independent statements in one round trip."""
        one = merged(run)
        try:
            [row] = await connection.fetch(one.sql, *one.params)
        except asyncpg.InvalidTextRepresentationError as error:
            if (unmet := UNMET.search(str(error))) is None:
                raise
            raise Unmet(run[int(unmet[1])].must or "") from None
        return [rows or [] for rows in orjson.loads(row[ROWS])]

    async def _run(self, connection: Any, statement: Statement) -> list[Row]:
        sql, params, must = statement.sql, statement.params, statement.must
        # asyncpg returns either the rows (`fetch`) or the count of rows touched (`execute`), never both.
        if must is None or await self._returns_rows(connection, sql):
            rows: list[Row] = [dict(row) for row in await connection.fetch(sql, *params)]
            if must is not None and not rows:
                raise Unmet(must)
            return rows
        if _touched(await connection.execute(sql, *params)) == 0:
            raise Unmet(must)
        return []

    async def _returns_rows(self, connection: Any, sql: str) -> bool:
        """Whether a statement has rows to return. The server is asked once for each text."""
        known = self._returning.get(sql)
        if known is None:
            known = self._returning[sql] = bool((await connection.prepare(sql)).get_attributes())
        return known

    def _acquire(self) -> Any:
        # asyncpg waits in a task of its own when it has to watch the clock: spare it where a connection is free.
        return self._pool.acquire(timeout=None if self._pool.get_idle_size() else PATIENCE_S)

    async def _attempts(self, work: Callable[["_Fate"], Awaitable[T]]) -> T:
        """Do `work` again after a deadlock, a serialization failure, or the loss of a connection before the commit."""
        if self._pool is None:
            raise DatabaseUnavailable("the database is not open")
        # By hand: what an error means decides in one place whether to try again and what is raised instead, by the fate
        # of this very attempt. tenacity would need that twice, as a predicate and as a translation.
        reason, cause = LOST, Exception()
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(random.uniform(0.5, 1.0) * 0.02 * 2**attempt)  # noqa: S311
            fate = _Fate()
            try:
                return await work(fate)
            except asyncpg.IntegrityConstraintViolationError as error:
                raise Conflict(str(error)) from error
            except asyncpg.DataError as error:
                raise ValueError(str(error)) from error
            except asyncpg.TransactionRollbackError as error:
                reason, cause = "the database could not order concurrent changes", error
            except TimeoutError as error:
                if fate.sealing:
                    raise OutcomeUnknown(LOST) from error
                raise DatabaseUnavailable("all connections to the database are in use") from error
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if (said := _not_now(error)) is None:
                    raise
                reason, cause = said, error
                if fate.sealing and _cut_off(error):
                    raise OutcomeUnknown(reason) from error
                if reason is not LOST:
                    raise DatabaseUnavailable(reason) from error
        raise DatabaseUnavailable(reason) from cause


class _Fate:
    """Whether what is under way could have been committed without our hearing of it."""

    __slots__ = ("sealing",)

    def __init__(self) -> None:
        self.sealing = False


def plain_dsn(url: str) -> str:
    """The address as asyncpg reads it: SQLAlchemy's `+driver` taken off."""
    scheme, colon, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{colon}{rest}"


def connect_options() -> dict[str, Any]:
    return {
        "timeout": PATIENCE_S,
        "command_timeout": 60.0,
        "server_settings": {
            "application_name": "parley",
            "lock_timeout": str(int(PATIENCE_S * 1_000)),
            "jit": "off",
        },
    }


async def connect(dsn: str) -> Any:
    """One connection of asyncpg. Raises `DatabaseUnavailable`."""
    try:
        return await asyncpg.connect(dsn, **connect_options())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error


async def _nothing_to_reset(_: Any) -> None:
    """Nothing here outlives a transaction, so giving a connection back costs no round trip."""


def _touched(tag: str) -> int:
    """Rows in a command's tag such as `UPDATE 3` or `INSERT 0 1`; 1 for a command that has no count."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else 1


def _not_now(error: BaseException) -> str | None:
    if isinstance(error, asyncpg.PostgresError):
        return why_not_now(error)
    if isinstance(error, asyncpg.InterfaceError) and "clos" not in str(error):
        return None  # a call that makes no sense, such as a wrong number of parameters; not a closed connection
    return LOST


def _cut_off(error: BaseException) -> bool:
    """True if the connection went without the server saying that it took the transaction back."""
    if isinstance(error, asyncpg.InterfaceError):
        return False  # asyncpg found the connection closed before it sent anything
    return isinstance(error, OSError | asyncpg.PostgresConnectionError)
