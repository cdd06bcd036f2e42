"""PostgreSQL's connections: how many there are, how long they wait, and what is known when one is cut."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chat_app.data.db import postgres as module
from chat_app.data.db.base import DatabaseUnavailable, OutcomeUnknown, Statement
from chat_app.data.db.postgres import SESSIONS, PostgresDatabase
from chat_app.data.tables import Tenant
from tests.servers import Postgres, migrated, new_database

SLEEPING = Statement("UPDATE tenant SET name = 'changed' WHERE pg_sleep(30) IS NOT NULL")
BESIDE = Statement("UPDATE price SET prompt_micro = 1")
"""Independent of the other: both go as one."""


@pytest.fixture
async def impatient(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresDatabase]:
    """Waits half a second for a connection and for an answer, and knows one tenant."""
    options = module.connect_options()
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(module, "connect_options", lambda: {**options, "command_timeout": 0.5})
    database = PostgresDatabase(postgres_url)
    await database.start()
    await database.batch(Statement("INSERT INTO tenant (id, name, created_at) VALUES ('t', 'first', 0)"))
    yield database
    await database.close()


@pytest.mark.parametrize("statements", [[SLEEPING], [SLEEPING, BESIDE]], ids=["one", "several as one"])
async def test_who_waits_in_vain_for_an_answer_does_not_know_the_outcome(
    impatient: PostgresDatabase, statements: list[Statement]
) -> None:
    with pytest.raises(OutcomeUnknown):
        await impatient.batch(*statements)
    assert await impatient.query("SELECT name FROM tenant") == [{"name": "first"}]


async def test_no_more_sessions_than_there_are_connections_for(impatient: PostgresDatabase) -> None:
    async with AsyncExitStack() as stack:

        async def begin() -> Any:
            session = await stack.enter_async_context(impatient.session())
            return await (await session.connection()).exec_driver_sql("SELECT 1")

        for _ in range(SESSIONS):
            await begin()
        with pytest.raises(DatabaseUnavailable, match="connections to the database are in use"):
            async with impatient.session() as session:
                await session.connection()
    async with impatient.session() as session:
        await session.connection()


async def test_nobody_waits_longer_than_five_seconds_for_a_lock(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url)
    await database.start()
    assert await database.query("SHOW lock_timeout") == [{"lock_timeout": "5s"}]
    async with database.session() as session:
        assert (await (await session.connection()).exec_driver_sql("SHOW lock_timeout")).scalar_one() == "5s"
    await database.close()


@pytest.fixture
async def server(own_postgres: Postgres) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(migrated(new_database(own_postgres.url)))
    await database.start()
    await database.batch(Statement("INSERT INTO tenant (id, name, created_at) VALUES ('t', 'first', 0)"))
    yield database
    await database.close()


async def test_a_restart_that_nobody_noticed_fails_no_session(server: PostgresDatabase, own_postgres: Postgres) -> None:
    async with server.session() as session:
        await session.connection()
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start)
    async with server.session() as session:
        session.add(Tenant(id="u", name="second", created_at=0))
    assert await server.query("SELECT name FROM tenant ORDER BY id") == [{"name": "first"}, {"name": "second"}]


async def test_what_went_as_one_and_was_cut_off_is_not_done_again(server: PostgresDatabase) -> None:
    batch = asyncio.create_task(server.batch(SLEEPING, BESIDE))
    find = "SELECT pid FROM pg_stat_activity WHERE query LIKE $1 AND wait_event = 'PgSleep'"
    async with asyncio.timeout(20):
        while not (found := await server.query(find, "WITH s0%")):
            await asyncio.sleep(0.02)
    os.kill(found[0]["pid"], signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await batch
