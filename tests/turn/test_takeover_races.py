"""A commit whose outcome is unknown, while another owner takes the turn over: its progress is not one's own."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chat_app.data.db.base import OutcomeUnknown, Statement
from chat_app.tools import BUILT_IN
from chat_app.wiring import Parley
from tests.parley import person, script

TAKEN = "UPDATE generation SET owner = 'other', fence = fence + 1"


async def taken_over_at(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, beginning: str, then: str, *, commits: bool
) -> Callable[[], bool]:
    """The next batch with such a statement ends with an unknown outcome, and meanwhile another owner has done `then`.

    `commits`: whether the batch took place. Returns whether it has come to that.
    """
    await parley.leases.hold("process:other", "other", 60_000)
    batch, happened = parley.db.batch, False

    async def lost(*statements: Statement) -> Sequence[Any]:
        nonlocal happened
        if happened or not any(statement.sql.startswith(beginning) for statement in statements):
            return await batch(*statements)
        happened = True
        if commits:
            await batch(*statements)
        await batch(Statement(then))
        raise OutcomeUnknown("lost at the commit")

    monkeypatch.setattr(parley.db, "batch", lost)
    return lambda: happened


async def until_left(parley: Parley, happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened() or parley.ownership.running:
            await asyncio.sleep(0.02)


async def test_an_end_by_another_owner_is_not_ones_own(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    ended = f"{TAKEN}, status = 'stopped'"
    happened = await taken_over_at(parley, monkeypatch, "UPDATE generation SET status = $3", ended, commits=False)
    started = await parley.turns.say(ada, script(tokens=20, rate=0, seed=1))
    await until_left(parley, happened)
    assert (await parley.log.read(started.generation_id)).end is None  # that is for the other one to write


async def test_a_step_that_another_owner_has_by_now_is_not_run_here(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    runs, run = list[str](), BUILT_IN["calculator"].run

    async def counted(arguments: str, key: str) -> str:
        runs.append(key)
        return await run(arguments, key)

    monkeypatch.setattr(BUILT_IN["calculator"], "run", counted)
    happened = await taken_over_at(parley, monkeypatch, "UPDATE generation SET step", TAKEN, commits=True)
    calls = [{"name": "calculator", "arguments": '{"expression": "17 * 23"}'}]
    await parley.turns.say(ada, script(text="Let me see.", calls=calls, then={"tokens": 5, "rate": 0}))
    await until_left(parley, happened)
    assert runs == []
