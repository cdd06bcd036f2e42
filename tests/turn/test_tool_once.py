"""A tool that has returned is not called again, whatever goes wrong before its step is settled."""

import asyncio
import json
from typing import Any

import pytest

from chat_app.billing.ledger import OVER_QUOTA
from chat_app.data.db.base import DatabaseUnavailable, Unmet
from chat_app.tools.calculator import Calculator
from chat_app.turn.bounds import Bounds
from chat_app.turn.transitions import Transitions
from chat_app.wiring import Parley
from tests.parley import answer, goes_on, person, script

CALL = {"name": "calculator", "arguments": json.dumps({"expression": "17 * 23"})}
QUESTION = script(text="Let me see.", rate=0, calls=[CALL], then={"text": "It is 391.", "rate": 0})
WHOLE = "Let me see.\n\nIt is 391.", "done"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the calls that were made."""
    keys, run = list[str](), Calculator.run

    async def counted(self: Calculator, arguments: str, key: str) -> str:
        keys.append(key)
        return await run(self, arguments, key)

    monkeypatch.setattr(Calculator, "run", counted)
    return keys


async def test_a_process_that_ends_while_the_next_prompt_is_counted(
    parley: Parley, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, counting = await person(parley), asyncio.Event()

    async def stuck(*_: object) -> Any:
        counting.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Bounds, "following", stuck)
        started = await parley.turns.say(ada, QUESTION)
        await asyncio.wait_for(counting.wait(), 10)
        await parley.ownership.close()
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 15) == WHOLE
    assert runs == [f"{started.generation_id}:2"]
    steps = await parley.steps.of(started.generation_id)
    assert [(step.kind, step.status) for step in steps] == [("model", "done"), ("tool", "done"), ("model", "done")]


async def test_a_database_that_is_away_while_the_month_is_looked_at(
    parley: Parley, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, move, allowance = await person(parley), Transitions._move, parley.ledger.allowance
    refused, away = [1], [1]

    async def refusing(self: Transitions, turn: Any, finished: Any, following: Any, *more: Any) -> None:
        if following.kind == "model" and refused:
            refused.pop()
            raise Unmet(OVER_QUOTA)
        await move(self, turn, finished, following, *more)

    async def unavailable(*args: Any, **named: Any) -> Any:
        if away:
            away.pop()
            raise DatabaseUnavailable("away")
        return await allowance(*args, **named)

    monkeypatch.setattr(Transitions, "_move", refusing)
    monkeypatch.setattr(parley.ledger, "allowance", unavailable)
    started = await parley.turns.say(ada, QUESTION)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 15) == WHOLE
    assert (runs, refused, away) == ([f"{started.generation_id}:2"], [], [])
