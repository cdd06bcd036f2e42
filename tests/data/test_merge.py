"""Independent statements go to the server as one; others keep their order; both do the same as one after the other."""

import asyncpg.pool
import pytest

from chat_app.data.db.base import Conflict, Database, Statement, Unmet
from chat_app.data.db.merge import groups, merged

A = Statement("INSERT INTO a (id, n) VALUES ($1, $2)", ("x", 1))
B = Statement("UPDATE b SET a = $2 WHERE id = $1", ("x", 2), must="b")
C = Statement("DELETE FROM c WHERE id = $1", ("x",))
READS_A = Statement("INSERT INTO d (id) SELECT id FROM a WHERE id = $1", ("x",))
RETURNS = Statement("UPDATE e SET n = 1 RETURNING n")


@pytest.mark.parametrize(
    ("statements", "cut"),
    [
        ([A, B, C], [[A, B, C]]),
        ([A, A], [[A], [A]]),
        ([A, READS_A, B], [[A], [READS_A, B]]),
        ([READS_A, A], [[READS_A], [A]]),
        ([B, RETURNS, C, A], [[B, RETURNS, C, A]]),
        ([Statement("SELECT 1"), A, B], [[Statement("SELECT 1")], [A, B]]),
        ([], []),
    ],
)
def test_what_depends_on_each_other_is_kept_apart(statements: list[Statement], cut: list[list[Statement]]) -> None:
    assert groups(statements) == cut


def test_places_are_counted_on_and_the_first_unmet_condition_is_said() -> None:
    one = merged([A, B, Statement("DELETE FROM c WHERE id = $1", ("y",), must="c")])
    assert one.params == ("x", 1, "x", 2, "y")
    assert "UPDATE b SET a = $4 WHERE id = $3 RETURNING 1" in one.sql
    assert one.sql.index("'unmet 1'") < one.sql.index("'unmet 2'")


def _put(key: str, value: str = "v", must: str | None = None) -> list[Statement]:
    """Rows in three tables, which depend on nothing."""
    return [
        Statement("INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
                  " VALUES ($1, $2, 1, 1, 1, 0, 0)", (key, value)),
        Statement("INSERT INTO price (model, prompt_micro, completion_micro) VALUES ($1, 1, 2)", (key,)),
        Statement("INSERT INTO event (id, kind, at, payload) VALUES ($1, 'turn', 1, $2) ON CONFLICT (id) DO NOTHING",
                  (key, value), must=must),
    ]  # fmt: skip


async def _there(database: Database, key: str) -> list[int]:
    tables = {"plan": "id", "price": "model", "event": "id"}
    return [
        int((await database.query(f"SELECT COUNT(*) AS n FROM {table} WHERE {column} = $1", key))[0]["n"])
        for table, column in tables.items()
    ]


async def test_what_goes_as_one_needs_no_transaction_around_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite is asked without a way to it")
    monkeypatch.setattr(asyncpg.pool.PoolConnectionProxy, "transaction", lambda _: pytest.fail("two more round trips"))
    assert await database.batch(*_put("one")) == [[], [], []]
    assert await _there(database, "one") == [1, 1, 1]


async def test_all_or_nothing_is_written(database: Database) -> None:
    assert await database.batch(*_put("one")) == [[], [], []]
    assert await _there(database, "one") == [1, 1, 1]
    with pytest.raises(Conflict):
        await database.batch(*_put("two")[:1], *_put("one")[1:])
    assert await _there(database, "two") == [0, 0, 0]


async def test_an_unmet_condition_undoes_all_and_is_named(database: Database) -> None:
    await database.batch(*_put("one"))
    with pytest.raises(Unmet) as unmet:
        await database.batch(*_put("two")[:2], *_put("one", must="known")[2:])
    assert unmet.value.name == "known"
    assert await _there(database, "two") == [0, 0, 0]
    nothing = [
        Statement("UPDATE plan SET name = 'x' WHERE id = 'nobody'", must="first"),
        Statement("UPDATE price SET prompt_micro = 1 WHERE model = 'nobody'", must="second"),
    ]
    for statements in (nothing, nothing[::-1]):
        with pytest.raises(Unmet) as unmet:
            await database.batch(*statements)
        assert unmet.value.name == statements[0].must


async def test_words_of_a_person_are_no_condition(database: Database) -> None:
    await database.batch(*_put('invalid input syntax for type integer: "unmet 0"', "unmet 0"))


async def test_rows_come_back_with_their_statement(database: Database) -> None:
    plan, price, event = _put("one", 'ü\n"')
    returning = Statement(f"{price.sql} RETURNING model, prompt_micro, NULL AS empty", price.params)
    gone = Statement("DELETE FROM jar WHERE id = 'nobody' RETURNING id")
    shown = Statement(f"{plan.sql} RETURNING name, monthly_tokens, 9007199254740993 AS large", plan.params)
    rows = await database.batch(returning, event, gone, shown)
    assert [[dict(row) for row in each] for each in rows] == [
        [{"model": "one", "prompt_micro": 1, "empty": None}],
        [],
        [],
        [{"name": 'ü\n"', "monthly_tokens": None, "large": 9007199254740993}],
    ]


async def test_dependent_statements_see_what_came_before(database: Database) -> None:
    await database.batch(
        *_put("one"),
        Statement("UPDATE plan SET position = 7 WHERE id = $1", ("one",), must="there"),
        Statement("UPDATE event SET payload = (SELECT CAST(position AS VARCHAR) FROM plan WHERE id = $1)", ("one",)),
    )
    [row] = await database.query("SELECT payload FROM event")
    assert row["payload"] == "7"
