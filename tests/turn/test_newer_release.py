"""Beside a newer release: what it wrote is read as far as possible, and left to it where it is not."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.data.db.base import Statement
from chat_app.data.log.entries import Entry
from chat_app.safety.verdict import Verdict
from chat_app.sessions import ownership
from chat_app.sessions.generations import LEFT_MS
from chat_app.tools import BUILT_IN
from chat_app.turn import Started, TurnError
from chat_app.turn.seal import Sealed, sealed_in
from chat_app.wiring import Parley
from inference.protocol import BadRequest
from tests.faults.test_taken_over import gone, month
from tests.parley import answer, expected, goes_on, person, script

CALL = {"name": "calculator", "arguments": {"expression": "17 * 23"}}


async def left(parley: Parley, generation_id: str, attempts: int = 1) -> None:
    """It has no owner any more, and that was no attempt at it: `attempts` are those before."""
    async with asyncio.timeout(10):
        while True:
            [row] = await parley.db.query(
                "SELECT owner, attempts, status, held_tokens FROM generation WHERE id = $1", generation_id
            )
            if row["owner"] == "":
                break
            await asyncio.sleep(0.05)
    assert (row["attempts"], row["status"] in ("queued", "streaming")) == (attempts, True)


@pytest.mark.parametrize("where", ["sampling", "candidates"])
async def test_a_job_with_more_in_it_is_left_alone(parley: Parley, where: str) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, rate=0, seed=1, prefill_s=60))
    [row] = await parley.db.query("SELECT job FROM generation WHERE id = $1", started.generation_id)
    job = json.loads(row["job"])
    (job[where] if where == "sampling" else job[where][0])["of_the_next_release"] = 1
    await gone(parley, started.generation_id, job=json.dumps(job))
    await goes_on(parley)
    await left(parley, started.generation_id)
    assert (await month(parley, ada))[1] > 0


@pytest.mark.parametrize("changed", ["a tool", "a kind of step"])
async def test_a_step_that_only_it_can_run_is_left_alone(parley: Parley, changed: str) -> None:
    ada = await person(parley)
    calls = [{"name": "search", "arguments": {}}] if changed == "a tool" else []
    started = await parley.turns.say(ada, script(text="Let me see.", rate=0, prefill_s=0.5, calls=calls))
    [row] = await parley.db.query("SELECT job FROM generation WHERE id = $1", started.generation_id)
    job = {**json.loads(row["job"]), "built_in": ["calculator", "search"]}
    await gone(parley, started.generation_id, job=json.dumps(job))
    if changed != "a tool":
        await parley.db.batch(
            Statement("UPDATE step SET kind = 'retrieval' WHERE generation_id = $1", (started.generation_id,))
        )
    await goes_on(parley)
    async with asyncio.timeout(10):
        while (await parley.db.query("SELECT owner FROM generation WHERE id = $1", started.generation_id))[0]["owner"]:
            await asyncio.sleep(0.05)
    assert await parley.generations.status(started.generation_id) in ("queued", "streaming")


async def test_a_turn_that_was_handed_back_in_its_second_step_goes_on_there(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes to the release that can run it with no attempt counted, and is not taken for a fresh one."""
    ada = await person(parley)
    question = script(text="Let me see. ", rate=0, calls=[CALL], then={"text": "It is 391.", "rate": 0})
    calculator = BUILT_IN["calculator"]
    with monkeypatch.context() as patch:
        patch.delitem(BUILT_IN, "calculator")
        patch.setattr("chat_app.turn.prepare.BUILT_IN", {"calculator": calculator})
        started = await parley.turns.say(ada, question)
        await left(parley, started.generation_id, attempts=0)
        await parley.ownership.close()
    parley.ownership._handed_back = None  # It is another release's process now.
    await goes_on(parley)
    shown = await asyncio.wait_for(answer(parley, started.generation_id), 15)
    assert shown == ("Let me see. \n\nIt is 391.", "done")
    steps = await parley.steps.of(started.generation_id)
    assert [(step.kind, step.status) for step in steps] == [("model", "done"), ("tool", "done"), ("model", "done")]


async def test_a_seal_with_more_in_it_is_settled(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    batch, sealed, entry = parley.db.batch, asyncio.Event(), Sealed.entry

    async def never_settled(*statements: Statement) -> Any:
        if any(statement.sql.startswith("UPDATE generation SET status = $3") for statement in statements):
            sealed.set()
            await asyncio.Event().wait()
        return await batch(*statements)

    with monkeypatch.context() as patch:
        patch.setattr(Sealed, "entry", lambda self: Entry("sealed", data={**entry(self).data, "energy_mj": 3}))
        patch.setattr(parley.db, "batch", never_settled)
        started = await parley.turns.say(ada, question := script(tokens=10, rate=0, seed=1))
        await asyncio.wait_for(sealed.wait(), 10)
        await parley.ownership.close()
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == (expected(question), "done")


def test_a_refusal_with_more_in_it_is_read() -> None:
    sealed = Sealed(1, "m", "refused", blocked=Verdict("output", "secret", "github_token", "It looks like a key."))
    data = sealed.entry().data
    newer = Entry("sealed", data={**data, "blocked": {**data["blocked"], "score": 0.9}})
    assert sealed_in([newer], 1) == sealed


@pytest.mark.parametrize("said", ["cannot take \x00 here", "cannot take \ud800 here"])
async def test_an_engines_words_that_no_store_can_hold_end_the_turn_once(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    ada = await person(parley)
    asked = []

    async def refused(request: Any) -> Any:
        asked.append(request)
        raise BadRequest(said)
        yield

    monkeypatch.setattr(parley.client, "stream", refused)
    started = await parley.turns.say(ada, script(tokens=10, rate=0, seed=1))
    assert (await asyncio.wait_for(answer(parley, started.generation_id), 10))[1] == "failed"
    assert "cannot take" in (await parley.generations.view(ada, started.generation_id)).error
    assert len(asked) == 1
    assert await month(parley, ada) == (0, 0)


async def test_a_defect_of_a_tool_is_a_result(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    from chat_app.tools.calculator import Calculator

    async def broken(*_: object) -> str:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Calculator, "run", broken)
    ada = await person(parley)
    question = script(text="Let me see. ", rate=0, calls=[CALL], then={"text": "It failed.", "rate": 0})
    started = await parley.turns.say(ada, question)
    assert (await asyncio.wait_for(answer(parley, started.generation_id), 10))[1] == "done"
    results = [entry for entry in await parley.viewer.entries(started.generation_id) if entry.kind == "tool_result"]
    assert [entry.data["content"] for entry in results] == ["Error: calculator failed"]


@pytest.fixture
async def handed_back(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> tuple[Identity, Started]:
    """A job of Ada's, whose plan allows one answer at a time, that no release which runs can do."""
    monkeypatch.setattr(ownership, "HANDED_BACK_S", 0.2)
    await parley.db.batch(Statement("UPDATE plan SET concurrent_streams = 1"))
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, rate=0, seed=1, prefill_s=60))
    [row] = await parley.db.query("SELECT job FROM generation WHERE id = $1", started.generation_id)
    job = json.loads(row["job"])
    job["sampling"]["of_the_next_release"] = 1
    await gone(parley, started.generation_id, job=json.dumps(job))
    await goes_on(parley)
    await left(parley, started.generation_id)
    return ada, started


async def test_a_job_that_is_left_to_a_newer_release_takes_no_place(
    parley: Parley, handed_back: tuple[Identity, Started]
) -> None:
    ada, started = handed_back
    async with asyncio.timeout(10):
        while True:
            with suppress(TurnError):  # While it is looked at it has its place.
                another = await parley.turns.say(ada, question := script(tokens=3, rate=0, seed=2))
                break
            await asyncio.sleep(0.02)
    assert await answer(parley, another.generation_id) == (expected(question), "done")
    assert await parley.generations.status(started.generation_id) == "queued"


@pytest.mark.parametrize("how", ["stopped", "thread deleted", "an hour ago"])
async def test_a_job_that_is_left_to_a_newer_release_ends(
    parley: Parley, handed_back: tuple[Identity, Started], how: str
) -> None:
    ada, started = handed_back
    if how == "stopped":
        await parley.turns.stop(ada, started.generation_id)
    elif how == "thread deleted":
        await parley.turns.delete(ada, str(started.thread_id))
    else:
        await long_ago(parley, started)
    await ended(parley, started)
    assert await month(parley, ada) == (0, 0)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == ("", "failed")


async def test_a_job_in_a_format_of_a_newer_release_is_given_up_after_an_hour(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, rate=0, seed=1, prefill_s=60))
    await gone(parley, started.generation_id, job="{}", job_version=99)
    await goes_on(parley)
    await asyncio.sleep(0.5)
    [row] = await parley.db.query("SELECT owner, status FROM generation WHERE id = $1", started.generation_id)
    assert dict(row) == {"owner": "gone", "status": "queued"}
    await long_ago(parley, started)
    await ended(parley, started)
    assert "newer version" in (await parley.generations.view(ada, started.generation_id)).error
    assert await month(parley, ada) == (0, 0)


async def long_ago(parley: Parley, started: Started) -> None:
    earlier = Statement(
        "UPDATE generation SET created_at = created_at - $2 WHERE id = $1", (started.generation_id, LEFT_MS)
    )
    await parley.db.batch(earlier)


async def ended(parley: Parley, started: Started) -> None:
    async with asyncio.timeout(10):
        while await parley.generations.status(started.generation_id) != "failed":
            await asyncio.sleep(0.05)
