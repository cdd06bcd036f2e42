"""The places among a person's running answers: every turn that comes to nothing leaves its own."""

import asyncio

import pytest

from chat_app.accounts.identity import Identity
from chat_app.sessions.generations import GenerationRow
from chat_app.turn import TurnError
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import answer, expected, person, script

SECRET = "my key is " + "AKIA" + "Q7R3ZK5TWM2X6PDB"


async def one_at_a_time(parley: Parley) -> Identity:
    """A person whose plan allows one answer at a time."""
    await parley.plans.save("one", "One", None, 6_000, 1)
    made = await person(parley)
    await parley.accounts.set_plan(made.user_id, "one")
    identity = await parley.accounts.by_key(await parley.accounts.make_key(made.user_id, "test"))
    assert identity is not None
    return identity


async def is_free(parley: Parley, identity: Identity) -> None:
    """The one place is: a turn is let in, and ends."""
    started = await parley.turns.say(identity, script(tokens=1, rate=0))
    assert (await answer(parley, started.generation_id))[1] == "done"


def rows_of(parley: Parley) -> list[GenerationRow]:
    """What runs here, as a heartbeat says it."""
    return [running.row for running in parley.ownership._running.values()]


def prepared(parley: Parley) -> list[GenerationRow]:
    """What is being prepared here, as a heartbeat says it."""
    return [row for row, _ in parley.ownership._registered.values()]


async def test_questions_that_are_refused_leave_their_place(parley: Parley) -> None:
    ada = await one_at_a_time(parley)
    for _ in range(2):
        started = await parley.turns.say(ada, SECRET)
        assert await parley.generations.status(started.generation_id) == "refused"
    for _ in range(2):
        with pytest.raises(TurnError, match="key"):
            await parley.turns.call(ada, [Message("user", SECRET)])
    assert prepared(parley) == []
    await is_free(parley, ada)


async def test_turns_that_cannot_begin_leave_their_place(parley: Parley) -> None:
    ada = await one_at_a_time(parley)
    for _ in range(2):
        with pytest.raises(TurnError) as error:
            await parley.turns.say(ada, "hello", model="gpt-17")
        assert error.value.code == "model_unknown"
    assert prepared(parley) == []
    await is_free(parley, ada)


async def test_closing_the_page_does_not_stop_a_persons_answer(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    batch, storing, may_go_on = parley.db.batch, asyncio.Event(), asyncio.Event()

    async def slow(*statements):  # type: ignore[no-untyped-def]
        storing.set()
        await may_go_on.wait()
        return await batch(*statements)

    monkeypatch.setattr(parley.db, "batch", slow)
    question = script(tokens=20, rate=0, seed=1, prefill_s=0.5)
    saying = asyncio.create_task(parley.turns.say(ada, question))
    await asyncio.wait_for(storing.wait(), 10)
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    may_go_on.set()
    async with asyncio.timeout(10):
        while not (begun := await parley.db.query("SELECT id FROM generation")):
            await asyncio.sleep(0.02)
    assert await answer(parley, begun[0]["id"]) == (expected(question), "done")


async def test_a_place_that_was_forgotten_is_taken_again_by_the_heartbeat(parley: Parley) -> None:
    ada = await one_at_a_time(parley)
    started = await parley.turns.say(ada, script(tokens=200, rate=50))
    await parley.limits.leave(f"streams:{ada.user_id}", started.generation_id)
    await parley.worker.beat(rows_of(parley))
    with pytest.raises(TurnError, match="1 answer at a time"):
        await parley.turns.say(ada, script(tokens=1, rate=0))
    await parley.turns.stop(ada, started.generation_id)
    await answer(parley, started.generation_id)
    await is_free(parley, ada)


async def test_a_heartbeat_takes_no_place_for_an_answer_that_has_ended(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await one_at_a_time(parley)
    started = await parley.turns.say(ada, script(tokens=30, rate=60))
    rows = rows_of(parley)
    assert [row.id for row in rows] == [started.generation_id]
    await answer(parley, started.generation_id)
    monkeypatch.delattr(type(parley.limits), "enter")  # not even for a moment
    await parley.worker.beat(rows)
    monkeypatch.undo()
    await is_free(parley, ada)


async def test_an_answer_that_ends_while_its_place_is_taken_again_leaves_it(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await one_at_a_time(parley)
    started = await parley.turns.say(ada, script(tokens=2_000, rate=50))
    rows, limits = rows_of(parley), parley.limits
    await limits.leave(f"streams:{ada.user_id}", started.generation_id)
    enter = limits.enter

    async def late(*args):  # type: ignore[no-untyped-def]
        await parley.turns.stop(ada, started.generation_id)
        await answer(parley, started.generation_id)
        return await enter(*args)

    monkeypatch.setattr(limits, "enter", late)
    await parley.worker.beat(rows)
    monkeypatch.undo()
    await is_free(parley, ada)


async def test_a_deleted_threads_answer_stops_even_if_nobody_posted_it(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=2_000, rate=60, seed=6))
    kept = await parley.turns.say(ada, other := script(tokens=200, rate=60, seed=7))
    await parley.threads.delete(ada, str(started.thread_id))
    text, end = await asyncio.wait_for(answer(parley, started.generation_id), 15)
    assert end == "stopped" and expected(question).startswith(text)
    [row] = await parley.db.query("SELECT completion_tokens FROM generation WHERE id = $1", started.generation_id)
    assert row["completion_tokens"] < 1_000
    assert await answer(parley, kept.generation_id) == (expected(other), "done")
