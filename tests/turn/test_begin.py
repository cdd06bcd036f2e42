"""The beginning of a turn: callers who go away while it is under way, and threads that do."""

import asyncio
from typing import Any

import pytest

from chat_app.turn import TurnError
from chat_app.turn.settle import Settlement
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import answer, person, script

KEY = "AKIA" + "Q7R3ZK5TWM2X6PDB"


@pytest.mark.parametrize(("detached", "end"), [(False, "stopped"), (True, "done")])
async def test_a_call_whose_program_goes_away_meanwhile(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, detached: bool, end: str
) -> None:
    ada = await person(parley)
    batch, storing, may_go_on = parley.db.batch, asyncio.Event(), asyncio.Event()

    async def slow(*statements: Any) -> Any:
        storing.set()
        await may_go_on.wait()
        return await batch(*statements)

    with monkeypatch.context() as patched:
        patched.setattr(parley.db, "batch", slow)
        question = Message("user", script(tokens=20, rate=0, prefill_s=1))
        calling = asyncio.create_task(parley.turns.call(ada, [question], detached=detached))
        await asyncio.wait_for(storing.wait(), 10)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        may_go_on.set()
    async with asyncio.timeout(10):
        while not (begun := await parley.db.query("SELECT id FROM generation")):
            await asyncio.sleep(0.02)
    assert (await answer(parley, begun[0]["id"]))[1] == end


async def test_a_refused_question_in_a_thread_that_is_deleted_meanwhile(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=1, rate=0))
    await answer(parley, started.generation_id)
    refuse = Settlement.refuse

    async def behind_a_deletion(self: Settlement, *args: Any) -> None:
        await parley.turns.delete(ada, started.thread_id or "")
        await refuse(self, *args)

    monkeypatch.setattr(Settlement, "refuse", behind_a_deletion)
    with pytest.raises(TurnError) as raised:
        await parley.turns.say(ada, f"My key is {KEY} .", started.thread_id)
    assert (raised.value.code, raised.value.status) == ("not_found", 404)
    assert await parley.reviews.waiting() == []


async def test_a_question_behind_an_older_message_is_said_to_begin_a_branch(parley: Parley) -> None:
    ada = await person(parley)
    first = await parley.turns.say(ada, script(tokens=1, rate=0))
    await answer(parley, first.generation_id)
    second = await parley.turns.say(ada, script(tokens=1, rate=0), first.thread_id, parent_id=first.answer_id)
    await answer(parley, second.generation_id)
    third = await parley.turns.say(ada, script(tokens=1, rate=0), first.thread_id, parent_id=first.answer_id)
    await answer(parley, third.generation_id)
    assert [started.branched for started in (first, second, third)] == [False, False, True]
