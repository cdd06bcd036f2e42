"""The beginning of a turn: callers who go away while it is under way, and threads that do."""

import asyncio
import gc
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.log.base import LogUnavailable
from chat_app.turn import TurnError
from chat_app.turn.settle import Settlement
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import answer, person, script

KEY = "AKIA" + "Q7R3ZK5TWM2X6PDB"


async def abandoned(parley: Parley, monkeypatch: pytest.MonkeyPatch, ada: Identity, *, detached: bool = False) -> str:
    """A call whose program went away while it was being stored; its id."""
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
    return str(begun[0]["id"])


@pytest.mark.parametrize(("detached", "end"), [(False, "stopped"), (True, "done")])
async def test_a_call_whose_program_goes_away_meanwhile(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, detached: bool, end: str
) -> None:
    call = await abandoned(parley, monkeypatch, await person(parley), detached=detached)
    assert (await answer(parley, call))[1] == end


@pytest.mark.parametrize("trouble", [LogUnavailable, asyncio.CancelledError])
async def test_a_call_whose_stop_does_not_get_through_runs_to_its_end_without_a_complaint(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, trouble: type[BaseException]
) -> None:
    complaints, tried = list[str](), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))

    async def lost(_: str) -> None:
        tried.set()
        raise trouble

    monkeypatch.setattr(parley.log, "request_stop", lost)
    call = await abandoned(parley, monkeypatch, await person(parley))
    await asyncio.wait_for(tried.wait(), 10)
    assert (await answer(parley, call))[1] == "done"
    gc.collect()  # What a task raised and nobody asked for is said when it is gone.
    loop.set_exception_handler(None)
    assert complaints == []


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


async def test_a_call_that_cannot_be_stored_when_its_program_is_gone_leaves_nothing_and_says_nothing(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, complaints = await person(parley), list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    storing, may_go_on = asyncio.Event(), asyncio.Event()

    async def away(*_: Any) -> Any:
        storing.set()
        await may_go_on.wait()
        raise DatabaseUnavailable("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(parley.db, "batch", away)
        calling = asyncio.create_task(parley.turns.call(ada, [Message("user", "Hello")]))
        await asyncio.wait_for(storing.wait(), 10)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        may_go_on.set()
        async with asyncio.timeout(10):
            while parley.ownership._registered:
                await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)
    gc.collect()
    loop.set_exception_handler(None)
    assert complaints == []
    assert await parley.db.query("SELECT id FROM generation") == []
