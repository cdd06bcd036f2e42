"""One suite for SQLite and PostgreSQL."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg.pool
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from chat_app.data.db import open_database
from chat_app.data.db.base import Conflict, Database, DatabaseUnavailable, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.tables import BrowserSession, Tenant
from chat_app.settings import Settings

PUT = "INSERT INTO jar (id, n) VALUES ($1, $2)"
ADD = "UPDATE jar SET n = n + $2 WHERE id = $1"


async def amount(database: Database, jar: str) -> int | None:
    rows = await database.query("SELECT n FROM jar WHERE id = $1", jar)
    return rows[0]["n"] if rows else None


async def test_answers_the_rows_of_each_statement(database: Database) -> None:
    answers = await database.batch(
        Statement(PUT, ("a", 1)),
        Statement("INSERT INTO jar (n, id) VALUES ($2, $1) RETURNING id, n, note", ("b", 2)),
        Statement("UPDATE jar SET n = n + $1 WHERE n < $2 OR n = $1 RETURNING n", (1, 2)),
        Statement("SELECT id, n FROM jar ORDER BY id"),
    )
    assert answers == [
        [],
        [{"id": "b", "n": 2, "note": None}],
        [{"n": 2}],
        [{"id": "a", "n": 2}, {"id": "b", "n": 2}],
    ]


async def test_upsert(database: Database) -> None:
    upsert = PUT + " ON CONFLICT (id) DO UPDATE SET n = jar.n + excluded.n RETURNING n"
    await database.batch(Statement(upsert, ("a", 2)))
    assert await database.batch(Statement(upsert, ("a", 3))) == [[{"n": 5}]]


@pytest.mark.parametrize(
    "failing",
    [
        ADD,
        "DELETE FROM jar WHERE id = $1 AND n = $2",
        PUT + " ON CONFLICT (id) DO NOTHING",
        PUT + " ON CONFLICT (id) DO UPDATE SET n = 0 WHERE jar.n > 99 RETURNING n",
        "SELECT n FROM jar WHERE id = $1 AND n = $2",
        "WITH one AS (SELECT id FROM jar WHERE id = $1) UPDATE jar SET n = $2 WHERE id IN (SELECT id FROM one)",
    ],
)
async def test_unmet_undoes_the_whole_batch(database: Database, failing: str) -> None:
    await database.batch(Statement(PUT, ("a", 1)))
    target = "a" if "INSERT" in failing else "absent"
    with pytest.raises(Unmet) as refusal:
        await database.batch(
            Statement(ADD, ("a", 10), must="first"),
            Statement(PUT, ("b", 1)),
            Statement(failing, (target, 5), must="second"),
        )
    assert refusal.value.name == "second"
    assert await amount(database, "a") == 1
    assert await amount(database, "b") is None


async def test_must_is_met_by_what_touches_a_row(database: Database) -> None:
    await database.batch(
        Statement(PUT, ("a", 1), must="put"),
        Statement(ADD, ("a", 1), must="add"),
        Statement("SELECT n FROM jar WHERE id = $1", ("a",), must="look"),
        Statement(
            "WITH one AS (SELECT id FROM jar WHERE id = $1) UPDATE jar SET n = 7 WHERE id IN (SELECT id FROM one)",
            ("a",),
            must="with",
        ),
    )
    assert await amount(database, "a") == 7
    await database.batch(Statement("DELETE FROM jar WHERE id = $1", ("a",), must="alone"))
    with pytest.raises(Unmet, match="alone"):
        await database.batch(Statement("DELETE FROM jar WHERE id = $1", ("a",), must="alone"))


async def test_whether_a_statement_returns_rows_is_asked_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite says it with the rows")
    touch = Statement(ADD, ("a", 1), must="touch")
    look = Statement("UPDATE jar SET n = n + 1 WHERE id = $1 RETURNING n", ("a",), must="look")
    await database.batch(Statement(PUT, ("a", 0)), touch, look)

    async def prepare(*_: object) -> None:
        pytest.fail("one more round trip")

    monkeypatch.setattr(asyncpg.pool.PoolConnectionProxy, "prepare", prepare)
    assert await database.batch(touch, look) == [[], [{"n": 4}]]
    assert await database.batch(look) == [[{"n": 5}]]
    with pytest.raises(Unmet, match="touch"):
        await database.batch(Statement(ADD, ("absent", 1), must="touch"))


async def test_a_broken_rule_undoes_the_whole_batch(database: Database) -> None:
    await database.batch(Statement(PUT, ("a", 1)))
    with pytest.raises(Conflict):
        await database.batch(Statement(ADD, ("a", 10)), Statement(PUT, ("a", 1)))
    with pytest.raises(Conflict):
        await database.batch(Statement(ADD, ("a", 10)), Statement(PUT, ("b", None)))
    with pytest.raises(Conflict):
        await database.batch(
            Statement(
                "INSERT INTO browser_session (id, user_id, created_at, expires_at) VALUES ($1, $2, 0, 0)",
                ("s", "nobody"),
            )
        )
    assert await amount(database, "a") == 1


async def test_nonsense_is_not_called_unavailable(database: Database) -> None:
    for sql in ("SELEKT 1", "SELECT * FROM nowhere", "UPDATE jar SET absent = 1", "SELECT * FROM jar WHERE id = $1"):
        for attempt in (database.batch(Statement(PUT, (sql, 1)), Statement(sql)), database.query(sql)):
            with pytest.raises(Exception) as failure:
                await attempt
            assert not isinstance(failure.value, DatabaseUnavailable | Conflict)
        assert await amount(database, sql) is None
    with pytest.raises(DBAPIError):
        async with database.session() as session:
            await (await session.connection()).exec_driver_sql("SELECT * FROM nowhere")


async def test_one_caller_among_many_fails_alone(database: Database) -> None:
    """Whatever is committed together: each batch stands or falls by itself."""
    await database.batch(Statement(PUT, ("sum", 0)))

    async def change(n: int) -> bool:
        statements = [Statement(PUT, (f"jar{n}", n)), Statement(ADD, ("sum", 1))]
        if n % 10 == 3:
            statements.append(Statement(ADD, ("absent", 1), must="present"))
        if n % 10 == 7:
            statements.append(Statement(PUT, ("sum", 0)))
        if n % 50 == 9:
            statements.append(Statement(PUT, ("nul", "\x00")))
        with suppress(Unmet, Conflict, ValueError):
            await database.batch(*statements)
            return True
        return False

    done = await asyncio.gather(*(change(n) for n in range(300)))
    assert done == [n % 10 not in (3, 7) and n % 50 != 9 for n in range(300)]
    assert await amount(database, "sum") == sum(done)
    assert (await database.query("SELECT count(*) AS n FROM jar"))[0]["n"] == sum(done) + 1


async def test_a_condition_in_the_statement_holds_under_concurrency(database: Database) -> None:
    await database.batch(Statement(PUT, ("quota", 30)), Statement(PUT, ("held", 0)))
    take = "UPDATE jar SET n = n - 1 WHERE id = $1 AND n >= 1"

    async def hold() -> bool:
        with suppress(Unmet):
            await database.batch(Statement(ADD, ("held", 1)), Statement(take, ("quota",), must="room"))
            return True
        return False

    assert sum(await asyncio.gather(*(hold() for _ in range(100)))) == 30
    assert (await amount(database, "quota"), await amount(database, "held")) == (0, 30)


async def test_opposite_orders_do_not_deadlock_for_the_caller(database: Database) -> None:
    await database.batch(Statement(PUT, ("a", 0)), Statement(PUT, ("b", 0)))
    slow = "SELECT pg_sleep(0.05)" if database.dialect == "postgresql" else "SELECT 1"

    async def add(first: str, second: str) -> None:
        await database.batch(Statement(ADD, (first, 1)), Statement(slow), Statement(ADD, (second, 1)))

    await asyncio.gather(add("a", "b"), add("b", "a"), add("a", "b"), add("b", "a"))
    assert [await amount(database, jar) for jar in "ab"] == [4, 4]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50),
    number=st.integers(-(2**63), 2**63 - 1),
)
async def test_values_come_back_as_they_went(database: Database, text: str, number: int) -> None:
    answers = await database.batch(
        Statement("DELETE FROM jar"),
        Statement("INSERT INTO jar (id, n, note) VALUES ($1, $2, $1) RETURNING *", (text, number)),
    )
    row: Any = {"id": text, "n": number, "note": text}
    assert answers[1] == [row]
    assert await database.query("SELECT * FROM jar WHERE note = $1 AND n = $2", text, number) == [row]


@pytest.mark.parametrize(("column", "bad"), [("note", "a\x00b"), ("note", "a\ud800b"), ("n", 2**63)])
async def test_values_that_no_database_holds_are_refused_by_both(
    database: Database, column: str, bad: str | int
) -> None:
    with pytest.raises(ValueError):
        await database.batch(Statement(PUT, ("a", 1)), Statement(f"UPDATE jar SET {column} = $1", (bad,)))
    with pytest.raises(ValueError):
        await database.query(f"SELECT * FROM jar WHERE {column} = $1", bad)
    assert await amount(database, "a") is None


async def test_session_commits_at_its_end(database: Database) -> None:
    async with database.session() as session:
        session.add(Tenant(id="t", name="Tënant", created_at=now_ms()))
    assert (await database.query("SELECT name FROM tenant"))[0]["name"] == "Tënant"
    await database.batch(Statement("UPDATE tenant SET name = $1", ("new",), must="tenant"))
    async with database.session() as session:
        tenant = (await session.exec(select(Tenant))).one()
    assert tenant.name == "new"  # and readable after the session


async def test_session_rolls_back_when_its_block_raises(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.session() as session:
            session.add(Tenant(id="t", name="x", created_at=0))
            await session.flush()
            raise KeyError
    assert await database.query("SELECT * FROM tenant") == []


async def test_session_raises_conflict(database: Database) -> None:
    for _ in range(2):
        with suppress(Conflict):
            async with database.session() as session:
                session.add(Tenant(id="t", name="x", created_at=0))
            continue
        break
    else:
        pytest.fail("the second insert was not refused")
    async with database.session() as session:
        assert len((await session.exec(select(Tenant))).all()) == 1


async def test_neither_session_nor_batch_refers_to_what_is_not_there(database: Database) -> None:
    with pytest.raises(Conflict):
        async with database.session() as session:
            session.add(BrowserSession(id="s", user_id="nobody", created_at=0, expires_at=1))
    columns = "id, user_id, created_at, expires_at"
    with pytest.raises(Conflict):
        await database.batch(Statement(f"INSERT INTO browser_session ({columns}) VALUES ('s', 'nobody', 0, 1)"))
    assert await database.query("SELECT * FROM browser_session") == []


async def test_sessions_get_their_turn_beside_a_busy_writer(database: Database) -> None:
    await database.batch(Statement(PUT, ("sum", 0)))
    busy = True

    async def write() -> int:
        done = 0
        while busy:
            await database.batch(Statement(ADD, ("sum", 1)))
            done += 1
        return done

    writers = [asyncio.create_task(write()) for _ in range(8)]
    try:
        async with asyncio.timeout(20):
            for n in range(20):
                async with database.session() as session:
                    session.add(Tenant(id=f"t{n}", name="x", created_at=0))
    finally:
        busy = False
        done = sum(await asyncio.gather(*writers))
    assert await amount(database, "sum") == done
    assert len(await database.query("SELECT * FROM tenant")) == 20


async def test_not_open(database_settings: Settings) -> None:
    database = open_database(database_settings)
    for state in ("not yet", "not any more"):
        with pytest.raises(DatabaseUnavailable):
            await database.batch(Statement("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            await database.query("SELECT 1")
        with pytest.raises(DatabaseUnavailable):
            async with database.session():
                pass
        if state == "not yet":
            await database.start()
            await database.query("SELECT 1")
            await database.close()


async def test_a_cancelled_caller_leaves_the_database_usable(database: Database) -> None:
    await database.batch(Statement(PUT, ("a", 0)))
    for _ in range(30):
        task = asyncio.create_task(database.batch(Statement(ADD, ("a", 1)), Statement(ADD, ("a", 1))))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await database.batch(Statement(ADD, ("a", 100)))
    left = await amount(database, "a")
    assert left is not None
    assert left % 2 == 0  # each of them whole or not at all
    assert 100 <= left <= 160
