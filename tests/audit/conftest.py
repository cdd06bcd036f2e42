"""A database of each kind with a trail, another replica's view of it, and the hand of somebody who can do anything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.audit.trail import Trail
from chat_app.data.acts import Act
from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.data.migrations import migrate
from chat_app.settings import Settings

Tamper = Callable[[str], Awaitable[None]]
TRIGGERS = {
    "sqlite": "SELECT 'DROP TRIGGER ' || name AS sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT DISTINCT 'DROP TRIGGER ' || trigger_name || ' ON ' || event_object_table AS sql"
    " FROM information_schema.triggers",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name a fresh database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    chosen = Settings(home=tmp_path / "home", database_url=SecretStr(url))
    migrate(chosen)
    return chosen


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    async for database in opened(settings):
        yield database


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[Database]:
    """The same database through the connections of another process."""
    async for database in opened(settings):
        yield database


async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = open_database(settings)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def trail(db: Database) -> Trail:
    return Trail(db, lambda address: f"hash-of-{address.count('.')}-dots")


async def one_by_one(trail: Trail, acts: Iterable[Act]) -> None:
    """Record acts in this order: within a millisecond entries have none."""
    for act in acts:
        await trail.record(act)
        await asyncio.sleep(0.002)


@pytest.fixture
async def tamper(db: Database) -> Tamper:
    """Runs a statement as somebody who owns the database: the triggers are away when it runs."""

    async def run(sql: str) -> None:
        drops = [row["sql"] for row in await db.query(TRIGGERS[db.dialect]) if "audit" in row["sql"]]
        await asyncio.gather(*(db.batch(Statement(drop)) for drop in drops))
        await db.batch(Statement(sql))

    return run
