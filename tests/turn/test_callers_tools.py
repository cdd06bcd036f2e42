"""What a program says about tools: its own are its own to run, and a choice is for the first step only."""

import asyncio
import json

import pytest

from chat_app.wiring import Parley
from inference.protocol import Message, Request, Tool
from tests.parley import entries, person, script

CALCULATOR = {"name": "calculator", "arguments": json.dumps({"expression": "17 * 23"})}
MINE = {"name": "mine", "arguments": "{}"}


@pytest.mark.parametrize("calls", [[MINE], [MINE, MINE]])
async def test_a_round_of_a_callers_own_tools_is_left_to_the_caller(parley: Parley, calls: list[object]) -> None:
    ada = await person(parley)
    question = Message("user", script(text="Let me see.", calls=calls))
    started = await parley.turns.call(ada, [question], tools=[Tool("mine")], built_in=["calculator"])
    shown, end = await asyncio.wait_for(entries(parley, started.generation_id), 10)
    assert end == "done"
    assert [entry.kind for entry in shown if entry.kind.startswith("tool")] == ["tool_call"] * len(calls)
    assert (await parley.generations.view(ada, started.generation_id)).receipt["finish"] == "tool_calls"
    steps = await parley.steps.of(started.generation_id)
    assert [(step.kind, step.status) for step in steps] == [("model", "done")]


async def test_a_required_tool_is_required_once(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    choices, stream = list[str](), parley.client.stream

    def streaming(request: Request):  # type: ignore[no-untyped-def]
        choices.append(request.tool_choice)
        return stream(request)

    monkeypatch.setattr(parley.client, "stream", streaming)
    question = Message("user", script(text="Let me see.", calls=[CALCULATOR]))
    started = await parley.turns.call(ada, [question], tool_choice="required", built_in=["calculator"])
    assert (await asyncio.wait_for(entries(parley, started.generation_id), 10))[1] == "done"
    assert choices == ["required", "auto"]
