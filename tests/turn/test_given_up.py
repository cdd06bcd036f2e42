"""An answer that is given up: what was read of it stays, what was charged for it is said, what it holds is free."""

import asyncio
import json

import pytest
import redis

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Account, Amount
from chat_app.data.db.base import Statement
from chat_app.sessions.generations import GenerationView
from chat_app.turn import Started
from chat_app.wiring import Parley
from tests.parley import StartParley, answer, entries, expected, fleet_settings, goes_on, person, script, so_far

CALL = {"name": "calculator", "arguments": json.dumps({"expression": "17 * 23"})}
TWO_MODELS = script(text="Let me see.", calls=[CALL], then={"tokens": 10, "prefill_s": 60})
"""A question whose answer is in its third step until its process goes."""


async def tried_too_often(parley: Parley, started: Started) -> None:
    """Leave the job as the last of twenty owners left it when it died."""
    await parley.ownership.close()
    await parley.db.batch(
        Statement("UPDATE generation SET owner = 'gone', attempts = 20 WHERE id = $1", (started.generation_id,))
    )


async def given_up(parley: Parley, who: Identity, started: Started) -> GenerationView:
    """The generation, once somebody has found that nobody can finish it."""
    await goes_on(parley)
    async with asyncio.timeout(10):
        while not (view := await parley.generations.view(who, started.generation_id)).ended:
            await asyncio.sleep(0.05)
    assert (view.status, view.receipt["finish"]) == ("failed", "failed")
    assert "many times" in view.error
    return view


async def in_third_step(parley: Parley, who: Identity) -> Started:
    started = await parley.turns.say(who, TWO_MODELS)
    async with asyncio.timeout(10):
        while len(await parley.steps.of(started.generation_id)) < 3:
            await asyncio.sleep(0.05)
    return started


async def message(parley: Parley, started: Started) -> tuple[str, str]:
    """Text and log that the answer's message has in the database."""
    [row] = await parley.db.query("SELECT content, log FROM message WHERE id = $1", started.answer_id)
    return row["content"], row["log"]


async def test_what_the_database_still_has_is_kept_when_the_log_is_lost(
    start_parley: StartParley, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.sessions.log_writer.CHECKPOINT_S", 0.2)
    stores = fleet_settings(request)
    parley = await start_parley(**stores)
    ada = await person(parley)
    question = script(tokens=400, rate=80, seed=1, reasoning="some thoughts first")
    started = await parley.turns.say(ada, question)
    async with asyncio.timeout(10):
        while len(await parley.generations.checkpointed(started.generation_id)) < 200:
            await asyncio.sleep(0.05)
    await tried_too_often(parley, started)
    saved = await parley.generations.checkpointed(started.generation_id)
    with redis.Redis.from_url(stores["redis_url"]) as client:
        client.flushdb()
    await given_up(parley, ada, started)
    content, log = await message(parley, started)
    assert len(content) > 100
    assert expected(question).startswith(content)
    assert (log, saved.endswith(content)) == (saved, True)
    shown, end = await entries(parley, started.generation_id)
    assert (shown[0].kind, shown[0].text.strip(), end) == ("reasoning", "some thoughts first", "failed")


async def test_what_only_the_log_has_is_kept(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=400, rate=200, seed=1))
    seen = await so_far(parley, started.generation_id, more_than=100)
    assert await parley.generations.checkpointed(started.generation_id) == ""
    await tried_too_often(parley, started)
    await given_up(parley, ada, started)
    content, log = await message(parley, started)
    assert expected(question).startswith(content)
    assert content.startswith(seen)
    assert log == "", "an answer that is nothing but text is its own log"
    assert await answer(parley, started.generation_id) == (content, "failed")


async def test_calls_and_results_are_kept_with_the_text(parley: Parley) -> None:
    ada = await person(parley)
    started = await in_third_step(parley, ada)
    before = (await parley.log.read(started.generation_id)).text
    await tried_too_often(parley, started)
    await given_up(parley, ada, started)
    assert await message(parley, started) == ("Let me see.", before)
    shown, _ = await entries(parley, started.generation_id)
    assert [entry.kind for entry in shown] == ["text", "tool_call", "sealed", "tool_result"]


async def test_the_seal_of_an_answer_that_could_not_be_settled_is_not_kept(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    batch, settling = parley.db.batch, asyncio.Event()

    async def never_settled(*statements: Statement):  # type: ignore[no-untyped-def]
        if any(statement.sql.startswith("UPDATE generation SET status = $3") for statement in statements):
            settling.set()
            await asyncio.Event().wait()
        return await batch(*statements)

    with monkeypatch.context() as patched:
        patched.setattr(parley.db, "batch", never_settled)
        started = await parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
        await asyncio.wait_for(settling.wait(), 10)
        await parley.ownership.close()
    await tried_too_often(parley, started)
    await given_up(parley, ada, started)
    assert await message(parley, started) == (expected(question), "")


async def test_what_finished_steps_were_charged_is_said(parley: Parley) -> None:
    ada = await person(parley)
    await parley.db.batch(
        Statement(
            "INSERT INTO price (model, prompt_micro, completion_micro) VALUES ($1, $2, $3)",
            ("scripted", 3_000_000, 9_000_000),
        )
    )
    started = await in_third_step(parley, ada)
    first, tool, _ = await parley.steps.of(started.generation_id)
    await tried_too_often(parley, started)
    view = await given_up(parley, ada, started)
    charged = (first.prompt_tokens, first.completion_tokens, first.cost_micro)
    assert min(charged) > 0
    assert (view.prompt_tokens, view.completion_tokens, view.cost_micro) == charged
    figures = ("prompt_tokens", "completion_tokens", "cost_micro")
    assert tuple(view.receipt[name] for name in figures) == charged
    assert [(line["kind"], line["status"]) for line in view.receipt["steps"]] == [
        ("model", "done"),
        ("tool", "done"),
        ("model", "failed"),
    ]
    [event] = await parley.db.query("SELECT payload FROM event WHERE id = $1", started.generation_id)
    assert tuple(json.loads(event["payload"])[name] for name in figures) == charged
    *finished, last = await parley.steps.of(started.generation_id)
    assert [(step.seq, step.status) for step in finished] == [(1, first.status), (2, tool.status)]
    assert (last.status, last.prompt_tokens, last.cost_micro) == ("failed", 0, 0)
    assert last.finished_at is not None
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (first.prompt_tokens + first.completion_tokens, 0)
    assert (month.used_micro, month.held_micro) == (first.cost_micro, 0)


async def test_rows_that_contradict_each_other_end_all_the_same(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, prefill_s=60))
    await tried_too_often(parley, started)
    [row] = await parley.db.query("SELECT * FROM generation WHERE id = $1", started.generation_id)
    account = Account(row["tenant_id"], row["user_id"], row["id"], row["period"])
    await parley.db.batch(*parley.ledger.release(account, 1, Amount(row["held_tokens"], row["held_micro"])))
    await given_up(parley, ada, started)
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (0, 0)
    [row] = await parley.db.query("SELECT job, held_tokens FROM generation WHERE id = $1", started.generation_id)
    assert dict(row) == {"job": "", "held_tokens": 0}


async def test_a_step_in_a_state_of_a_newer_release_ends_all_the_same(parley: Parley) -> None:
    ada = await person(parley)
    started = await in_third_step(parley, ada)
    await tried_too_often(parley, started)
    await parley.db.batch(
        Statement("UPDATE step SET status = 'waiting' WHERE generation_id = $1 AND seq = 3", (started.generation_id,))
    )
    await given_up(parley, ada, started)
    assert [step.status for step in await parley.steps.of(started.generation_id)] == ["done", "done", "failed"]
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0


@pytest.mark.parametrize("kind", ["tool", "model"])
async def test_a_log_that_lacks_what_the_steps_have_done_is_given_up_at_once(parley: Parley, kind: str) -> None:
    """After a power cut, or when Valkey and the owner are gone in the same second."""
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, prefill_s=60))
    await parley.ownership.close()
    result = json.dumps({"id": "call_1", "name": "calculator", "content": "391", "failed": False, "step": 2})
    later = [("tool", "running", "")] if kind == "tool" else [("tool", "done", result), ("model", "running", "")]
    row = (started.generation_id,)
    for seq, (kind, status, output) in enumerate(later, 2):
        await parley.db.batch(
            Statement(
                "INSERT INTO step (generation_id, seq, kind, model, name, key, input, output, status, prompt_tokens,"
                " completion_tokens, cached_tokens, cost_micro, prompt_micro, completion_micro, started_at)"
                " VALUES ($1, $2, $3, '', '', '', 0, $4, $5, 0, 0, 0, 0, 0, 0, 0)",
                (*row, seq, kind, output, status),
            ),
            Statement("UPDATE generation SET step = $2 WHERE id = $1", (*row, seq)),
        )
    await parley.db.batch(
        Statement("UPDATE step SET status = 'done' WHERE generation_id = $1 AND seq = 1", row),
        Statement("UPDATE generation SET owner = 'gone' WHERE id = $1", row),
    )
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == ("", "failed")
    view = await parley.generations.view(ada, started.generation_id)
    assert ("damaged" in view.error, view.receipt["attempts"]) == (True, 2)
