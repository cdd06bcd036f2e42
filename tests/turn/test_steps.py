"""A turn of several steps: model, tool, model; each held and settled for itself, none ever run twice."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.data.log.entries import decode, text_of
from chat_app.tools import BUILT_IN
from chat_app.tools.calculator import _FUNCTIONS
from chat_app.turn import Started
from chat_app.turn.call_gate import MOST_CALLS, UNKNOWN
from chat_app.turn.seal import BETWEEN
from chat_app.turn.stream import TOO_MANY_CALLS
from chat_app.turn.tool import NOT_TOGETHER
from chat_app.turn.work import MOST_STEPS, TOO_MANY_STEPS
from chat_app.wiring import Parley
from inference.protocol import Chunk, Message, Request, Tool, ToolCall
from tests.parley import answer, entries, goes_on, person, script

EXPRESSION = json.dumps({"expression": "17 * 23"})
CALL = {"name": "calculator", "arguments": EXPRESSION}
FIRST, SECOND = "Let me work that out.", "The result is 391."


def question(**more: object) -> str:
    return script(text=FIRST, calls=[CALL], **more)


async def steps_of(parley: Parley, generation_id: str) -> list[tuple[int, str, str]]:
    return [(step.seq, step.kind, step.status) for step in await parley.steps.of(generation_id)]


async def test_model_tool_model(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question())
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    kinds = [entry.kind for entry in shown if entry.kind not in ("status", "sealed")]
    assert kinds == ["text", "tool_call", "tool_result", "text"]
    call, result = (entry.data for entry in shown if entry.kind in ("tool_call", "tool_result"))
    assert (call["name"], call["arguments"], call["built_in"]) == ("calculator", EXPRESSION, True)
    assert (result["id"], result["content"], result["failed"]) == (call["id"], "391", False)
    assert await steps_of(parley, started.generation_id) == [
        (1, "model", "done"),
        (2, "tool", "done"),
        (3, "model", "done"),
    ]

    thread = await parley.threads.open(ada, str(started.thread_id))
    assert thread.messages[-1].content == f"{FIRST}{BETWEEN}{SECOND}"
    assert [step["kind"] for step in thread.messages[-1].receipt["steps"]] == ["model", "tool", "model"]


async def test_each_model_step_is_held_and_settled_for_itself(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question())
    await entries(parley, started.generation_id)
    rows = await parley.db.query(
        "SELECT kind, seq, tokens FROM ledger WHERE generation_id = $1 ORDER BY seq, created_at", started.generation_id
    )
    assert [(row["kind"], row["seq"]) for row in rows] == [("hold", 1), ("settle", 1), ("hold", 3), ("settle", 3)]
    view = await parley.generations.view(ada, started.generation_id)
    month = await parley.ledger.allowance(ada.user_id, None)
    assert month.held == 0
    assert month.used == view.prompt_tokens + view.completion_tokens == rows[1]["tokens"] + rows[3]["tokens"]
    first, _, last = await parley.steps.of(started.generation_id)
    assert last.prompt_tokens > first.prompt_tokens > 0, "the second one reads the call and its result too"


async def test_two_calls_in_one_round_run_in_order(parley: Parley) -> None:
    ada = await person(parley)
    other = {"name": "calculator", "arguments": json.dumps({"expression": "1 / 0"})}
    started = await parley.turns.say(ada, script(text=FIRST, calls=[CALL, other]))
    shown, end = await entries(parley, started.generation_id)
    results = [entry.data for entry in shown if entry.kind == "tool_result"]
    assert end == "done"
    assert [(result["content"], result["failed"]) for result in results] == [
        ("391", False),
        ("Error: division by zero", True),
    ]
    assert [kind for _, kind, _ in await steps_of(parley, started.generation_id)] == ["model", "tool", "tool", "model"]


async def test_a_callers_own_tool_ends_the_turn(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.call(ada, [Message("user", question())], tools=[Tool("calculator")])
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    [call] = [entry.data for entry in shown if entry.kind == "tool_call"]
    assert not call["built_in"]
    view = await parley.generations.view(ada, started.generation_id)
    assert view.receipt["finish"] == "tool_calls"
    assert await steps_of(parley, started.generation_id) == [(1, "model", "done")]
    again = await parley.turns.call(
        ada,
        [
            Message("user", question()),
            Message("assistant", FIRST, tool_calls=(_call(call),)),
            Message("tool", "391", tool_call_id=call["id"]),
        ],
        tools=[Tool("calculator")],
    )
    assert await answer(parley, again.generation_id) == (SECOND, "done")


async def test_built_in_tools_over_the_api(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.call(ada, [Message("user", question())], built_in=["calculator"])
    assert await answer(parley, started.generation_id) == (f"{FIRST}{BETWEEN}{SECOND}", "done")


async def test_a_stop_between_steps_ends_the_turn(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    running, done = asyncio.Event(), asyncio.Event()

    async def slow(arguments: str, key: str) -> str:
        running.set()
        await done.wait()
        return "391"

    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", lambda _, arguments, key: slow(arguments, key))
    started = await parley.turns.say(ada, question())
    await running.wait()
    await parley.turns.stop(ada, started.generation_id)
    await asyncio.sleep(0.05)
    done.set()
    shown, end = await entries(parley, started.generation_id)
    assert end == "stopped"
    kinds = [entry.kind for entry in shown if entry.kind not in ("status", "sealed")]
    assert kinds == ["text", "tool_call", "tool_result"], "the model that would read the result says nothing"
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0


@pytest.mark.parametrize("moment", ["first model", "tool", "second model"])
async def test_a_restart_in_any_step_goes_on_to_the_exact_end(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ada = await person(parley)
    keys: list[str] = []
    started: Started | None = None
    calculator = BUILT_IN["calculator"]
    real, reached = calculator.run, asyncio.Event()

    async def run(_: object, arguments: str, key: str) -> str:
        keys.append(key)
        if moment == "tool" and started is not None and len(keys) == 1:
            reached.set()
            await asyncio.Event().wait()
        return await real(arguments, key)

    monkeypatch.setattr(type(calculator), "run", run)
    words = " ".join(f"word{n}" for n in range(60))
    ask = script(text=words, rate=150, calls=[CALL], then={"text": words, "rate": 150})
    undisturbed = await tokens_of(parley, ada, ask)
    keys.clear()
    started = await parley.turns.say(ada, ask)
    seen = ""
    async for update in parley.viewer.follow(started.generation_id):
        seen += text_of(update.entries)
        if (moment == "first model" and len(seen) > 100) or (moment == "second model" and len(seen) > len(words) + 100):
            break
        if any(entry.kind == "tool_call" for entry in update.entries) and moment == "tool":
            await reached.wait()
            break
    await parley.ownership.close()
    await goes_on(parley)
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    assert "".join(entry.text for entry in shown if entry.kind == "text") == words + BETWEEN + words
    assert len([entry for entry in shown if entry.kind == "tool_result"]) == 1
    assert len(set(keys)) == 1
    assert len(keys) == (2 if moment == "tool" else 1), "a finished step never runs again"
    view = await parley.generations.view(ada, started.generation_id)
    assert view.receipt["attempts"] == 2
    assert (view.prompt_tokens, view.completion_tokens) == undisturbed
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (2 * sum(undisturbed), 0)


async def test_a_result_that_the_log_lacks_is_read_from_its_step(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    requests, stream, append, lost = list[Request](), parley.client.stream, parley.log.append, asyncio.Event()

    def asked(request: Request) -> AsyncGenerator[Chunk, None]:
        requests.append(request)
        return stream(request)

    async def losing(id: str, fence: int, offset: int, text: str) -> None:
        """The row gets the result; what the log had of it is gone when another process looks."""
        if any(entry.kind == "tool_result" for entry in decode(text)):
            return
        if seen := [step for step in await parley.steps.of(id) if step.status == "done" and step.kind == "tool"]:
            assert [step.seq for step in seen] == [2]
            lost.set()
            await asyncio.Event().wait()
        await append(id, fence, offset, text)

    monkeypatch.setattr(parley.client, "stream", asked)
    with monkeypatch.context() as patched:
        patched.setattr(parley.log, "append", losing)
        started = await parley.turns.say(ada, question())
        await asyncio.wait_for(lost.wait(), 10)
        assert (await steps_of(parley, started.generation_id))[1:] == [(2, "tool", "done"), (3, "model", "running")]
        await parley.ownership.close()
    requests.clear()
    await goes_on(parley)
    shown, end = await asyncio.wait_for(entries(parley, started.generation_id), 10)
    assert end == "done"
    assert [entry.data["content"] for entry in shown if entry.kind == "tool_result"] == ["391"]
    [second] = requests
    *_, call, result = second.messages
    assert result == Message("tool", "391", tool_call_id=call.tool_calls[0].id)
    assert text_of(shown) == f"{FIRST}{BETWEEN}{SECOND}"


async def test_a_model_that_always_wants_tools_is_stopped(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.turn.work.MOST_STEPS", 6)
    ada = await person(parley)
    again = {"text": "Once more.", "calls": [CALL]}
    for _ in range(5):
        again = {"text": "Once more.", "calls": [CALL], "then": again}
    started = await parley.turns.say(ada, script(**again))
    assert (await entries(parley, started.generation_id))[1] == "failed"
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.error, view.receipt["code"]) == (TOO_MANY_STEPS, "too_many_steps")
    steps = await parley.steps.of(started.generation_id)
    assert [(step.kind, step.status) for step in steps] == [
        *[("model", "done"), ("tool", "done")] * 2,
        ("model", "done"),
    ]
    assert (await answer(parley, started.generation_id))[0] == BETWEEN.join(["Once more."] * 3)
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (sum(step.prompt_tokens + step.completion_tokens for step in steps), 0)


@pytest.mark.parametrize("calls", [MOST_STEPS - 2, MOST_STEPS - 1])
async def test_the_calls_of_one_answer_count_before_the_first_one_is_made(parley: Parley, calls: int) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(text=FIRST, calls=[CALL] * calls))
    shown, end = await entries(parley, started.generation_id)
    made = calls + 2 <= MOST_STEPS
    assert end == ("done" if made else "failed")
    assert len([entry for entry in shown if entry.kind == "tool_result"]) == (calls if made else 0)
    assert len(await parley.steps.of(started.generation_id)) == (calls + 2 if made else 1)
    view = await parley.generations.view(ada, started.generation_id)
    assert view.error == ("" if made else TOO_MANY_STEPS)


@pytest.mark.parametrize("offered", [{"built_in": ["calculator"]}, {"tools": [Tool("calculator")]}])
async def test_more_calls_than_a_message_may_have_are_none(parley: Parley, offered: dict[str, Any]) -> None:
    ada = await person(parley)
    ask = Message("user", script(text=FIRST, calls=[CALL] * (MOST_CALLS + 1)))
    started = await parley.turns.call(ada, [ask], **offered)
    shown, end = await entries(parley, started.generation_id)
    assert end == "failed"
    assert [entry.kind for entry in shown] == ["text", "sealed"]
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.error, view.receipt["code"]) == (TOO_MANY_CALLS, "too_many_calls")


async def test_a_stop_comes_before_the_next_tool(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    asked: list[str] = []

    async def run(_: object, arguments: str, key: str) -> str:
        asked.append(key)
        await parley.turns.stop(ada, key.partition(":")[0])
        await until_stopped(parley, key.partition(":")[0])
        return "391"

    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", run)
    started = await parley.turns.say(ada, script(text=FIRST, calls=[CALL] * 3))
    shown, end = await entries(parley, started.generation_id)
    assert end == "stopped"
    assert len(asked) == len([entry for entry in shown if entry.kind == "tool_result"]) == 1
    assert await steps_of(parley, started.generation_id) == [
        (1, "model", "done"),
        (2, "tool", "done"),
        (3, "tool", "stopped"),
    ]
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0


async def until_stopped(parley: Parley, generation_id: str) -> None:
    """Return once the request to stop has reached the owner."""
    async with asyncio.timeout(10):
        await parley.log.stop_requested(generation_id).wait()


async def test_a_tool_of_the_callers_is_called_without_those_that_run_here(parley: Parley) -> None:
    ada = await person(parley)
    weather = {"name": "weather", "arguments": "{}"}
    mixed = script(text=FIRST, calls=[weather, CALL], then={"text": "Now the weather.", "calls": [weather]})
    started = await parley.turns.call(ada, [Message("user", mixed)], tools=[Tool("weather")], built_in=["calculator"])
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    calls = [(entry.data["name"], entry.data["built_in"]) for entry in shown if entry.kind == "tool_call"]
    assert calls == [("weather", True), ("calculator", True), ("weather", False)]
    results = [(entry.data["failed"], entry.data["content"]) for entry in shown if entry.kind == "tool_result"]
    assert results == [(True, f"Error: weather {NOT_TOGETHER}"), (False, "391")]
    view = await parley.generations.view(ada, started.generation_id)
    assert view.receipt["finish"] == "tool_calls"


async def test_a_tool_that_was_not_offered_is_named_to_nobody_but_said_not_to_exist(parley: Parley) -> None:
    ada = await person(parley)
    key = "AKIA" + "Q7R3ZK5TWM2X6PDB"
    asked = script(text=FIRST, calls=[{"name": key, "arguments": "{}"}], then={"text": SECOND})
    ask = Message("user", asked.replace("AKIA", "\\u0041KIA"))  # Else the check of the question finds it.
    started = await parley.turns.call(ada, [ask], tools=[Tool("weather")], built_in=["calculator"])
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    assert [entry.data["name"] for entry in shown if entry.kind == "tool_call"] == [UNKNOWN]
    [result] = [entry.data["content"] for entry in shown if entry.kind == "tool_result"]
    assert result == "Error: there is no such tool. There are: weather, calculator."
    assert text_of(shown) == f"{FIRST}{BETWEEN}{SECOND}"
    assert key not in (await parley.log.read(started.generation_id)).text


async def test_a_tool_that_computes_too_long_is_given_up(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.turn.tool.TOOL_S", 0.05)
    over = threading.Event()
    monkeypatch.setitem(_FUNCTIONS, "abs", lambda _: over.wait(10))
    ada = await person(parley)
    call = {"name": "calculator", "arguments": {"expression": "abs(1)"}}
    started = await parley.turns.say(ada, script(text=FIRST, calls=[call], then={"text": SECOND}))
    shown, end = await entries(parley, started.generation_id)
    over.set()
    assert end == "done"
    [result] = [entry.data for entry in shown if entry.kind == "tool_result"]
    assert result["failed"] and "took longer" in result["content"]


async def tokens_of(parley: Parley, identity: Identity, ask: str) -> tuple[int, int]:
    """Prompt and completion tokens of a turn that nothing disturbs."""
    started = await parley.turns.say(identity, ask)
    await entries(parley, started.generation_id)
    view = await parley.generations.view(identity, started.generation_id)
    return view.prompt_tokens, view.completion_tokens


def _call(data: dict[str, str]) -> ToolCall:
    return ToolCall(data["id"], data["name"], data["arguments"])


async def test_what_is_blocked_in_one_answer_is_blocked_over_two_steps(parley: Parley) -> None:
    ada = await person(parley)
    begun, rest = "Of course. This is how to make a pipe bomb at home.", "You will need a pipe and gunpowder. It burns."
    asked = script(text=begun, calls=[CALL], then={"text": rest}).replace("pipe", "\\u0070ipe")  # Else it is refused.
    started = await parley.turns.say(ada, asked)
    shown, end = await entries(parley, started.generation_id)
    assert (text_of(shown), end) == (begun, "refused")
