"""What is closed leaves nothing open behind it: no connection, no journal."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.data.leases.valkey import ValkeyLeases
from chat_app.data.limits.valkey import ValkeyLimits
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from chat_app.data.tables import Tenant
from chat_app.settings import Settings
from tests.data.logs import watch


async def until_none(open_now: Callable[[], Awaitable[object]]) -> None:
    """A server may notice that a connection is gone a moment after its client."""
    async with asyncio.timeout(5):
        while await open_now():
            await asyncio.sleep(0.02)


async def use(database: Database) -> None:
    await database.batch(Statement("UPDATE tenant SET name = name"))
    await database.query("SELECT * FROM tenant")
    async with database.session() as session:
        session.add(Tenant(id="t", name="x", created_at=0))


async def test_a_database_that_was_closed_is_not_open_any_more(database_settings: Settings) -> None:
    database = open_database(database_settings)
    await database.close()  # before it was opened there is nothing to close
    await database.start()
    await use(database)
    await database.close()
    await database.close()
    if url := database_settings.database_url.get_secret_value():
        onlooker = await asyncpg.connect(url)
        mine = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        await until_none(lambda: onlooker.fetch(mine))
        await onlooker.close()
    else:  # SQLite takes the journal away with the last connection
        assert list(database_settings.sqlite_path.parent.glob("*-wal")) == []


async def test_a_log_file_that_was_closed_is_not_open_any_more(home: Path) -> None:
    log = SqliteLog(home / "log.db")
    await log.start()
    await log.open("g", 1)
    await log.append("g", 1, 0, "text")
    await log.read("g")
    await log.close()
    assert [path.name for path in home.iterdir()] == ["log.db"]


@pytest.mark.parametrize("kind", [ValkeyLeases, ValkeyLimits, ValkeyLog])
async def test_no_connection_to_valkey_outlives_its_part(
    redis_url: str, kind: type[ValkeyLeases | ValkeyLimits | ValkeyLog]
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as onlooker:

        async def clients() -> set[str]:
            return {client["id"] for client in await onlooker.client_list()}

        before, part = await clients(), kind(redis_url)
        await part.start()
        if isinstance(part, ValkeyLog):
            await part.open("g", 1)
            await part.append("g", 1, 0, "text")
            await part.read("g")
            await part.end("h", 1, "done")
            await watch(part, "h")
        mine = await clients() - before
        assert mine
        await part.close()

        async def mine_now() -> set[str]:
            return mine & await clients()

        await until_none(mine_now)
