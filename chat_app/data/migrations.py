"""Brings the database to the newest schema. `alembic upgrade head` and the app's start take the same way.

Several replicas may start at once: on PostgreSQL an advisory lock, on SQLite the write lock lets one of them migrate
while the others wait, and all of a run's changes are one transaction on either. It does not know what changes.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic.config import Config
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.db.orm import why_not_now
from chat_app.data.db.postgres import connect, plain_dsn
from chat_app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ADVISORY_LOCK = 0x7061726C6579
"""The number of our advisory lock on PostgreSQL: "parley" in ASCII."""
PATIENCE_S = 60.0
"""How long a replica waits for another to finish migrating."""


def migrate(settings: Settings) -> None:
    """Upgrade to head; nothing happens if the database is there already. Not to be called on a running event loop.

    Raises `DatabaseUnavailable`.
    """
    run_in_transaction(settings, lambda connection: command.upgrade(configured(connection), "head"))


def configured(connection: Connection) -> Config:
    """Alembic's configuration, bound to a connection that is in a transaction."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["connection"] = connection
    return config


def run_in_transaction(settings: Settings, work: Callable[[Connection], None]) -> None:
    """Run `work` with the database to itself, as one transaction. Raises `DatabaseUnavailable`."""
    if not settings.database_url.get_secret_value():
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_run(_engine(settings), work))


async def _run(engine: AsyncEngine, work: Callable[[Connection], None]) -> None:
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(text(f"SET LOCAL lock_timeout = '{int(PATIENCE_S)}s'"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": ADVISORY_LOCK})
            await connection.run_sync(work)
    except DBAPIError as error:
        reason = why_not_now(error.orig)
        if reason is None:
            raise
        raise DatabaseUnavailable(reason) from error


def _engine(settings: Settings) -> AsyncEngine:
    """An engine of one connection, whose transactions on SQLite hold the write lock from their beginning."""
    url = settings.database_url.get_secret_value()
    if url:
        return create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: connect(plain_dsn(url)), poolclass=NullPool
        )
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(settings.sqlite_path)),
        connect_args={"timeout": PATIENCE_S},
        poolclass=NullPool,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
