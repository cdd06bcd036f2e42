"""A turn of several steps: model, tool, model; each held and settled for itself, none ever run twice."""

import asyncio
import json

import pytest

from chat_app.accounts.identity import Identity
from chat_app.tools import BUILT_IN
from chat_app.turn import Started
from chat_app.turn.seal import BETWEEN
from chat_app.wiring import Parley
from inference.protocol import Message, Sampling, Tool, ToolCall
from tests.parley import entries, person, script

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
    assert (await entries(parley, again.generation_id))[1] == "done"
    assert await parley.viewer.text(again.generation_id) == SECOND


async def test_built_in_tools_over_the_api(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.call(ada, [Message("user", question())], built_in=["calculator"])
    assert (await entries(parley, started.generation_id))[1] == "done"
    assert await parley.viewer.text(started.generation_id) == f"{FIRST}{BETWEEN}{SECOND}"


async def test_a_month_without_room_for_a_further_step_ends_the_turn_with_the_reason(parley: Parley) -> None:
    ada = await person(parley)
    probe = await parley.turns.call(
        ada, [Message("user", question())], sampling=Sampling(max_tokens=60), tools=[Tool("calculator")]
    )
    await entries(parley, probe.generation_id)
    view = await parley.generations.view(ada, probe.generation_id)
    limit = 2 * (view.prompt_tokens + view.completion_tokens) + 60
    await parley.plans.save("tiny", "Tiny", limit, 600, 8)
    await parley.accounts.set_plan(ada.user_id, "tiny")
    ada = await again_identity(parley, ada.user_id)
    started = await parley.turns.call(
        ada, [Message("user", question())], sampling=Sampling(max_tokens=60), built_in=["calculator"]
    )
    shown, end = await entries(parley, started.generation_id)
    assert end == "failed"
    assert [entry.data["content"] for entry in shown if entry.kind == "tool_result"] == ["391"]
    view = await parley.generations.view(ada, started.generation_id)
    assert "this month's tokens" in view.error
    month = await parley.ledger.allowance(ada.user_id, limit)
    assert month.held == 0
    assert await steps_of(parley, started.generation_id) == [(1, "model", "done"), (2, "tool", "done")]


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
        seen += update.text
        if (moment == "first model" and len(seen) > 100) or (moment == "second model" and len(seen) > len(words) + 100):
            break
        if any(entry.kind == "tool_call" for entry in update.entries) and moment == "tool":
            await reached.wait()
            break
    await parley.ownership.close()
    await parley.ownership.start(parley.worker.work, parley.admission.occupy)
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


async def test_a_model_that_always_wants_tools_is_stopped(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.turn.work.MOST_STEPS", 6)
    ada = await person(parley)
    again = {"text": "Once more.", "calls": [CALL]}
    for _ in range(5):
        again = {"text": "Once more.", "calls": [CALL], "then": again}
    started = await parley.turns.say(ada, script(**again))
    assert (await entries(parley, started.generation_id))[1] == "done"
    assert len(await parley.steps.of(started.generation_id)) == 5
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0


async def tokens_of(parley: Parley, identity: Identity, ask: str) -> tuple[int, int]:
    """Prompt and completion tokens of a turn that nothing disturbs."""
    started = await parley.turns.say(identity, ask)
    await entries(parley, started.generation_id)
    view = await parley.generations.view(identity, started.generation_id)
    return view.prompt_tokens, view.completion_tokens


def _call(data: dict[str, str]) -> ToolCall:
    return ToolCall(data["id"], data["name"], data["arguments"])


async def again_identity(parley: Parley, user_id: str):  # type: ignore[no-untyped-def]
    key = await parley.accounts.make_key(user_id, "test")
    identity = await parley.accounts.by_key(key)
    assert identity is not None
    return identity
