"""What each database does when something goes wrong under it."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database, DatabaseUnavailable, OutcomeUnknown, Statement
from chat_app.data.db.postgres import ATTEMPTS, CONNECTIONS, PostgresDatabase
from chat_app.data.db.sqlite import SqliteDatabase
from chat_app.data.migrations import migrate
from chat_app.data.tables import Tenant
from chat_app.settings import Settings
from tests.data.killing import kill_while_writing
from tests.data.writing import STREAMS
from tests.servers import Postgres, migrated, new_database

PUT = "INSERT INTO jar (id, n) VALUES ($1, $2)"
ADD = "UPDATE jar SET n = n + $2 WHERE id = $1"
JAR = Statement("CREATE TABLE jar (id TEXT PRIMARY KEY, n BIGINT NOT NULL, note TEXT)")


async def test_what_was_acknowledged_survives_kill_9(database: Database, database_settings: Settings) -> None:
    await database.batch(*(Statement(PUT, (f"sum-{stream}", 0)) for stream in range(STREAMS)))
    address = database_settings.database_url.get_secret_value() or str(database_settings.sqlite_path)
    acknowledged = await kill_while_writing("database", address)
    for stream, count in acknowledged.items():
        rows = await database.query("SELECT n FROM jar WHERE id LIKE $1 ORDER BY n", f"{stream}-%")
        numbers = [row["n"] for row in rows]
        assert numbers == list(range(len(numbers)))
        assert count <= len(numbers) <= count + 1  # at most the one under way besides
        total = await database.query("SELECT n FROM jar WHERE id = $1", f"sum-{stream}")
        assert total[0]["n"] == len(numbers)  # each batch whole


# SQLite --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def file(home: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(home / "one.db")
    await database.start()
    await database.batch(JAR)
    yield database
    await database.close()


async def pragma(database: SqliteDatabase, statement: str) -> None:
    await database._writer.run(lambda connection: connection.execute(statement).fetchall())


async def test_full_disk(file: SqliteDatabase) -> None:
    await file.batch(Statement(PUT, ("a", 1)))
    await pragma(file, "PRAGMA max_page_count = 20")
    results = await asyncio.gather(
        *(file.batch(Statement("INSERT INTO jar VALUES ($1, 1, $2)", (f"big{n}", "x" * 200_000))) for n in range(3)),
        *(file.batch(Statement(ADD, ("a", 1), must="a")) for _ in range(20)),
        return_exceptions=True,
    )
    for failure in results[:3]:
        assert isinstance(failure, DatabaseUnavailable)
        assert "disk is full" in str(failure)
    assert results[3:] == [[[]]] * 20  # small ones beside them still fit
    assert await file.query("SELECT id, n FROM jar") == [{"id": "a", "n": 21}]
    await pragma(file, "PRAGMA max_page_count = 100000")
    await file.batch(Statement("INSERT INTO jar VALUES ($1, 1, $2)", ("big", "x" * 200_000)))


async def test_locked_by_another_program(file: SqliteDatabase, home: Path) -> None:
    await pragma(file, "PRAGMA busy_timeout = 50")
    other = sqlite3.connect(home / "one.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = [asyncio.create_task(file.batch(Statement(PUT, (f"a{n}", 1)))) for n in range(5)]
    for task in waiting:
        with pytest.raises(DatabaseUnavailable, match="locked by something else"):
            await task
    assert await file.query("SELECT * FROM jar") == []  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    await file.batch(Statement(PUT, ("a", 1)))


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b""])
async def test_damaged_file(home: Path, content: bytes) -> None:
    path = home / "one.db"
    path.write_bytes(content)
    database = SqliteDatabase(path)
    if content:
        with pytest.raises(DatabaseUnavailable, match="not a database"):
            await database.start()
    else:  # an empty file is an empty database
        await database.start()
        await database.close()


async def test_missing_directory(home: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
        await SqliteDatabase(home / "absent" / "one.db").start()


async def test_a_session_that_waits_does_not_lose_the_writers_batches(home: Path) -> None:
    settings = Settings(home=home)
    await asyncio.to_thread(migrate, settings)
    database = open_database(settings)
    await database.start()
    await database.batch(JAR)
    async with database.session() as session:
        session.add(Tenant(id="t", name="x", created_at=0))
        await session.flush()  # the write lock is held from here on
        batches = [asyncio.create_task(database.batch(Statement(PUT, (f"a{n}", n)))) for n in range(5)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in batches)
    await asyncio.gather(*batches)
    assert len(await database.query("SELECT * FROM jar")) == 5
    await database.close()


# PostgreSQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(own_postgres: Postgres) -> AsyncIterator[PostgresDatabase]:
    url = migrated(new_database(own_postgres.url))
    database = open_database(Settings(database_url=SecretStr(url.replace("postgresql://", "postgres://"))))
    assert isinstance(database, PostgresDatabase)
    await database.start()
    await database.batch(JAR, Statement(PUT, ("a", 0)))
    yield database
    await database.close()


async def everything_works(database: PostgresDatabase) -> None:
    await database.batch(Statement(ADD, ("a", 1), must="a"), Statement(ADD, ("a", 1), must="a"))
    async with database.session() as session:
        session.add(Tenant(name="x", created_at=0))


async def test_server_restart(server: PostgresDatabase, own_postgres: Postgres) -> None:
    await asyncio.gather(*(everything_works(server) for _ in range(8)))  # connections in every pool
    await asyncio.to_thread(own_postgres.stop)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await server.batch(Statement(ADD, ("a", 100), must="a"))
        with pytest.raises(DatabaseUnavailable):
            await server.query("SELECT 1")
        with pytest.raises(DatabaseUnavailable):
            async with server.session() as session:
                session.add(Tenant(name="never", created_at=0))
    await asyncio.to_thread(own_postgres.start)
    await asyncio.gather(*(everything_works(server) for _ in range(8)))
    assert (await server.query("SELECT n FROM jar"))[0]["n"] == 32
    assert (await server.query("SELECT count(*) AS n FROM tenant"))[0]["n"] == 16


async def test_server_not_there_at_start() -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await PostgresDatabase("postgresql://parley@127.0.0.1:1/none").start()


async def backend_of(database: PostgresDatabase, doing: str) -> int:
    async with asyncio.timeout(10):
        while True:
            rows = await database.query(
                "SELECT pid FROM pg_stat_activity WHERE query LIKE $1 AND wait_event = 'PgSleep'", doing
            )
            if rows:
                return int(rows[0]["pid"])
            await asyncio.sleep(0.02)


async def test_a_batch_whose_connection_was_ended_is_done_once(server: PostgresDatabase) -> None:
    await server.batch(Statement("CREATE SEQUENCE tries"))  # counts attempts, also those that are undone
    sleep_at_first = "SELECT pg_sleep(CASE WHEN nextval('tries') = 1 THEN 30 ELSE 0 END)"
    batch = asyncio.create_task(server.batch(Statement(ADD, ("a", 1)), Statement(sleep_at_first)))
    pid = await backend_of(server, "SELECT pg_sleep(%")
    await server.batch(Statement("SELECT pg_terminate_backend(CAST($1 AS INT))", (pid,)))
    await batch
    assert (await server.query("SELECT n FROM jar"))[0]["n"] == 1
    assert (await server.query("SELECT last_value AS n FROM tries"))[0]["n"] == 2


async def test_between_two_attempts_is_a_pause_that_doubles(
    server: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, sleep = list[float](), asyncio.sleep

    async def no_longer(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_longer)
    with pytest.raises(DatabaseUnavailable, match="concurrent changes"):
        await server.batch(Statement("DO 'BEGIN RAISE SQLSTATE ''40001''; END'"))
    assert len(pauses) == ATTEMPTS - 1
    for attempt, pause in enumerate(pauses, 1):
        assert 0.01 * 2**attempt <= pause <= 0.02 * 2**attempt


async def test_the_end_of_a_lost_commit_is_called_unknown(server: PostgresDatabase) -> None:
    sleeping = "UPDATE jar SET n = n + 1 WHERE id = 'a' AND pg_sleep(30) IS NOT NULL"
    batch = asyncio.create_task(server.batch(Statement(sleeping)))
    os.kill(await backend_of(server, "UPDATE jar%"), signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await batch
    async with asyncio.timeout(20):  # the server restarts itself after such a kill
        while True:
            try:
                assert (await server.query("SELECT n FROM jar"))[0]["n"] == 0
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.1)


async def test_a_batch_of_several_that_is_lost_in_its_commit_is_not_done_again(server: PostgresDatabase) -> None:
    wait = "'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'"
    await server.batch(
        Statement(f"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS {wait}"),
        Statement(
            "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON jar DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION wait()"
        ),
    )
    batch = asyncio.create_task(server.batch(Statement(ADD, ("a", 1)), Statement(ADD, ("a", 1))))
    os.kill(await backend_of(server, "COMMIT%"), signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await batch


async def test_a_lock_that_does_not_come_free(server: PostgresDatabase) -> None:
    holding = asyncio.Event()

    async def hold() -> None:
        async with server._pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE jar SET n = 5")
            holding.set()
            await asyncio.sleep(1)

    holder = asyncio.create_task(hold())
    await holding.wait()
    with pytest.raises(DatabaseUnavailable, match="locked by something else"):
        await server.batch(Statement("SET LOCAL lock_timeout = '100ms'"), Statement(ADD, ("a", 1)))
    await holder
    await server.batch(Statement(ADD, ("a", 1)))
    assert (await server.query("SELECT n FROM jar"))[0]["n"] == 6


@pytest.mark.parametrize(("committing", "error"), [(False, DatabaseUnavailable), (True, OutcomeUnknown)])
async def test_a_session_whose_connection_is_ended(
    server: PostgresDatabase, committing: bool, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        async with server.session() as session:
            connection = await session.connection()
            await connection.exec_driver_sql("INSERT INTO jar (id, n) VALUES ('b', 1)")
            mine = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
            await server.query("SELECT pg_terminate_backend($1)", mine)
            if not committing:
                await connection.exec_driver_sql("SELECT 1")
    assert type(raised.value) is error
    assert [row["id"] for row in await server.query("SELECT id FROM jar")] == ["a"]


async def test_a_connection_that_does_not_come_free(server: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.data.db.postgres.PATIENCE_S", 0.2)
    held = [await server._pool.acquire() for _ in range(CONNECTIONS)]
    async with asyncio.timeout(10):
        for waiting in (server.query("SELECT 1"), server.batch(Statement(ADD, ("a", 1)))):
            with pytest.raises(DatabaseUnavailable, match="connections to the database are in use"):
                await waiting
    waiting = asyncio.ensure_future(server.query("SELECT n FROM jar"))
    await asyncio.sleep(0)
    for connection in held:
        await server._pool.release(connection)
    assert await waiting == [{"n": 0}]
