"""An answer that a former release was writing when it was replaced by this one."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, text

from alembic import command
from chat_app.data.ids import new_id, now_ms
from chat_app.data.migrations import configured, run_in_transaction
from chat_app.settings import Settings
from tests.parley import StartParley, answer, expected, person, script

USER, THREAD, QUESTION, ANSWER, GENERATION = (new_id() for _ in range(5))
SAID = "The first words of"
PERIOD = "2026-11"
# As `Prompt.to_json` of the release before steps wrote it.
PROMPT = json.dumps(
    [
        [["system", "You are a helpful AI assistant named Parley."], ["user", "What is a parley?"]],
        [21, 1, 0],
        {"max_tokens": 512, "temperature": 0.4, "top_p": 0.95, "seed": None, "stop": []},
        "default",
        1,
    ]
)


def former_release(connection: Connection) -> None:
    """The first schema, and in it what that release leaves when it is killed in mid-answer."""
    command.upgrade(configured(connection), "0001")
    now = now_ms()
    rows: list[tuple[str, dict[str, object]]] = [
        ("tenant", {"id": "one", "name": "One", "created_at": now}),
        (
            "plan",
            {
                "id": "standard",
                "name": "Standard",
                "monthly_tokens": 100_000,
                "requests_per_minute": 60,
                "concurrent_streams": 1,
                "weight": 1,
                "position": 1,
                "created_at": now,
            },
        ),
        (
            "users",
            {
                "id": USER,
                "tenant_id": "one",
                "email": "old@example.org",
                "name": "Old",
                "password_hash": "",
                "role": "user",
                "plan_id": "standard",
                "created_at": now,
            },
        ),
        (
            "thread",
            {
                "id": THREAD,
                "tenant_id": "one",
                "user_id": USER,
                "title": "What is a parley?",
                "model": "",
                "head_id": ANSWER,
                "created_at": now,
                "updated_at": now,
            },
        ),
        (
            "message",
            {"id": QUESTION, "thread_id": THREAD, "role": "user", "content": "What is a parley?", "created_at": now},
        ),
        (
            "message",
            {
                "id": ANSWER,
                "thread_id": THREAD,
                "parent_id": QUESTION,
                "role": "assistant",
                "content": "",
                "generation_id": GENERATION,
                "created_at": now,
            },
        ),
        ("quota", {"user_id": USER, "period": PERIOD, "used": 100, "held": 533}),
        (
            "ledger",
            {
                "id": new_id(),
                "tenant_id": "one",
                "user_id": USER,
                "generation_id": GENERATION,
                "kind": "hold",
                "period": PERIOD,
                "tokens": 533,
                "cost_micro": 0,
                "created_at": now,
            },
        ),
        (
            "generation",
            {
                "id": GENERATION,
                "tenant_id": "one",
                "user_id": USER,
                "thread_id": THREAD,
                "message_id": ANSWER,
                "source": "chat",
                "status": "streaming",
                "owner": new_id(),
                "fence": 1,
                "model": "scripted",
                "plan_id": "standard",
                "prompt": PROMPT,
                "checkpoint": SAID,
                "period": PERIOD,
                "held_tokens": 533,
                "prompt_tokens": 21,
                "completion_tokens": 0,
                "cached_tokens": 0,
                "cost_micro": 0,
                "attempts": 1,
                "error": "",
                "receipt": "",
                "created_at": now,
                "first_token_at": now,
            },
        ),
    ]
    for table, row in rows:
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


@pytest.mark.parametrize("column", ["embedded", "fleet"])
async def test_it_ends_with_the_reason_and_its_hold_is_released(
    start_parley: StartParley, request: pytest.FixtureRequest, tmp_path: Path, column: str
) -> None:
    stores = {}
    if column == "fleet":
        urls = request.getfixturevalue("empty_postgres_url"), request.getfixturevalue("redis_url")
        stores = {"database_url": urls[0], "redis_url": urls[1]}
    home = tmp_path / "home"
    settings = Settings(home=home, database_url=SecretStr(stores.get("database_url", "")))
    await asyncio.to_thread(run_in_transaction, settings, former_release)

    parley = await start_parley(**stores, home=home)
    assert await asyncio.wait_for(answer(parley, GENERATION), 15) == (SAID, "failed")
    [row] = await parley.db.query("SELECT * FROM generation WHERE id = $1", GENERATION)
    assert (row["status"], row["held_tokens"], row["job"]) == ("failed", 0, "")
    assert "updated" in row["error"] and "not charged" in row["error"]
    [message] = await parley.db.query("SELECT content FROM message WHERE id = $1", ANSWER)
    assert message["content"] == SAID

    month = await parley.ledger.allowance(USER, 100_000, PERIOD)
    assert (month.used, month.held, month.left) == (100, 0, 99_900)
    entries = await parley.db.query(
        "SELECT kind, seq, tokens, cost_micro FROM ledger WHERE generation_id = $1 ORDER BY kind", GENERATION
    )
    assert [tuple(dict(entry).values()) for entry in entries] == [("hold", 1, 533, 0), ("settle", 1, 0, 0)]
    [event] = await parley.db.query("SELECT payload FROM event WHERE id = $1", GENERATION)
    assert json.loads(event["payload"])["status"] == "failed"

    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=3, rate=0))
    assert await answer(parley, started.generation_id) == (expected(question), "done")
