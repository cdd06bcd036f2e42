"""What a turn of several steps may write and hold: `max_tokens` bounds all of it, the month may have less left."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_app.accounts.identity import Identity
from chat_app.data.db.base import Statement
from chat_app.data.log.entries import text_of
from chat_app.prompts.measure import measured
from chat_app.sessions.steps import Step
from chat_app.tools import BUILT_IN
from chat_app.turn import Started, TurnError
from chat_app.turn.seal import BETWEEN
from chat_app.wiring import Parley
from inference.protocol import Message, Sampling, ToolCall
from tests.parley import answer, entries, goes_on, person, prompt_tokens, script

ARGUMENTS = json.dumps({"expression": "17 * 23"})
FIRST = "Let me work that out."
SECOND = " ".join(f"word{n}" for n in range(60))
QUESTION = script(text=FIRST, calls=[{"name": "calculator", "arguments": ARGUMENTS}], then={"text": SECOND})
SLOWLY = script(text=FIRST, calls=[{"name": "calculator", "arguments": ARGUMENTS}], then={"text": SECOND, "rate": 60})


async def ask(parley: Parley, who: Identity, question: str = QUESTION, most: int = 500) -> Started:
    return await parley.turns.call(
        who, [Message("user", question)], sampling=Sampling(max_tokens=most), built_in=["calculator"]
    )


async def undisturbed(parley: Parley, question: str = QUESTION) -> tuple[Step, Step]:
    """The first and the last step of the turn where nothing bounds it."""
    grace = await person(parley, "grace@example.org")
    started = await ask(parley, grace, question)
    assert (await entries(parley, started.generation_id))[1] == "done"
    first, _, last = await parley.steps.of(started.generation_id)
    return first, last


async def with_a_month_of(parley: Parley, tokens: int) -> Identity:
    ada = await person(parley)
    await parley.plans.save("tight", "Tight", tokens, 600, 8)
    await parley.accounts.set_plan(ada.user_id, "tight")
    identity = await parley.accounts.by_key(await parley.accounts.make_key(ada.user_id, "test"))
    assert identity is not None
    return identity


async def ledger(parley: Parley, generation_id: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Tokens and money of each entry, by kind and step."""
    rows = await parley.db.query(
        "SELECT kind, seq, tokens, cost_micro FROM ledger WHERE generation_id = $1", generation_id
    )
    return {(row["kind"], row["seq"]): (row["tokens"], row["cost_micro"]) for row in rows}


async def month(parley: Parley, who: Identity) -> tuple[int, int]:
    allowance = await parley.ledger.allowance(who.user_id, None)
    return allowance.used, allowance.held


def words(count: int) -> str:
    return " ".join(SECOND.split()[:count])


async def another_owner(parley: Parley) -> None:
    await parley.ownership.close()
    await goes_on(parley)


async def said(parley: Parley, started: Started, text: str) -> None:
    """Wait until a viewer sees this text."""
    seen = ""
    async for update in parley.viewer.follow(started.generation_id):
        seen += text_of(update.entries)
        if text in seen:
            return


@pytest.mark.parametrize("taken_over", [False, True])
async def test_the_rest_of_a_month_gives_a_further_step_a_shorter_answer(parley: Parley, taken_over: bool) -> None:
    question = SLOWLY if taken_over else QUESTION
    first, last = await undisturbed(parley, question)
    charged = first.prompt_tokens + first.completion_tokens
    ada = await with_a_month_of(parley, limit := charged + last.prompt_tokens + 25)
    started = await ask(parley, ada, question)
    if taken_over:
        await said(parley, started, words(5))
        await another_owner(parley)
    assert await answer(parley, started.generation_id) == (FIRST + BETWEEN + words(25), "done")
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.receipt["finish"], view.receipt["attempts"]) == ("length", 1 + taken_over)
    assert await month(parley, ada) == (limit, 0)
    booked = await ledger(parley, started.generation_id)
    assert booked["hold", 3] == booked["settle", 3] == (last.prompt_tokens + 25, 0)


async def test_a_month_without_room_for_a_further_step_ends_the_turn_with_the_reason(parley: Parley) -> None:
    first, last = await undisturbed(parley)
    charged = first.prompt_tokens + first.completion_tokens
    ada = await with_a_month_of(parley, charged + last.prompt_tokens + 15)
    started = await ask(parley, ada)
    shown, end = await entries(parley, started.generation_id)
    assert end == "failed"
    assert [entry.data["content"] for entry in shown if entry.kind == "tool_result"] == ["391"]
    view = await parley.generations.view(ada, started.generation_id)
    assert "this month's tokens" in view.error
    assert view.receipt["code"] == "quota_exceeded"
    assert view.prompt_tokens + view.completion_tokens == charged
    assert await month(parley, ada) == (charged, 0)
    steps = await parley.steps.of(started.generation_id)
    assert [(step.kind, step.status) for step in steps] == [("model", "done"), ("tool", "done")]


async def test_an_answer_that_may_only_be_short_needs_little_of_the_month(parley: Parley) -> None:
    first, last = await undisturbed(parley)
    charged = first.prompt_tokens + first.completion_tokens
    ada = await with_a_month_of(parley, limit := charged + last.prompt_tokens + 3)
    started = await ask(parley, ada, most=first.completion_tokens + 3)
    assert (await entries(parley, started.generation_id))[1] == "done"
    assert await month(parley, ada) == (limit, 0)

    plain = script(tokens=30)
    prompt = await prompt_tokens(parley, plain, tools=False)
    await parley.plans.save("tight", "Tight", limit + prompt + 3, 600, 8)
    await entries(parley, (await parley.turns.call(ada, [Message("user", plain)], sampling=Sampling(3))).generation_id)
    assert await month(parley, ada) == (limit + prompt + 3, 0)
    with pytest.raises(TurnError, match="used up"):
        await parley.turns.call(ada, [Message("user", plain)], sampling=Sampling(3))


@pytest.mark.parametrize("taken_over", [False, True])
async def test_max_tokens_bounds_the_whole_answer(parley: Parley, taken_over: bool) -> None:
    question = SLOWLY if taken_over else QUESTION
    first, _ = await undisturbed(parley, question)
    ada, most = await person(parley), first.completion_tokens + 25
    started = await ask(parley, ada, question, most)
    if taken_over:
        await said(parley, started, words(5))
        await another_owner(parley)
    assert await answer(parley, started.generation_id) == (FIRST + BETWEEN + words(25), "done")
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.completion_tokens, view.receipt["finish"]) == (most, "length")
    assert view.receipt["attempts"] == 1 + taken_over


async def test_a_further_step_holds_only_what_the_answer_may_still_have(parley: Parley) -> None:
    ada = await person(parley)
    started = await ask(parley, ada)
    shown, _ = await entries(parley, started.generation_id)
    [call] = [entry.data for entry in shown if entry.kind == "tool_call"]
    measure = await measured(lambda messages, tools: parley.engine.count("scripted", messages, tools=tools))
    added = (
        Message("assistant", FIRST, (ToolCall(call["id"], call["name"], call["arguments"]),)),
        Message("tool", "391", tool_call_id=call["id"]),
    )
    first, *_ = await parley.steps.of(started.generation_id)
    booked = await ledger(parley, started.generation_id)
    assert booked["hold", 3][0] == booked["hold", 1][0] + sum(map(measure.of_message, added)) - first.completion_tokens


async def test_an_answer_whose_tokens_are_written_ends_behind_its_tool(parley: Parley) -> None:
    first, _ = await undisturbed(parley)
    ada = await person(parley)
    started = await ask(parley, ada, most=first.completion_tokens)
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    assert [entry.kind for entry in shown] == ["text", "tool_call", "sealed", "tool_result", "sealed"]
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.completion_tokens, view.receipt["finish"]) == (first.completion_tokens, "length")
    assert view.receipt["ttft_ms"] is not None
    assert await month(parley, ada) == (first.prompt_tokens + first.completion_tokens, 0)


@pytest.mark.parametrize("finish", ["length", "failed"])
async def test_a_turn_that_ended_behind_its_tool_and_was_not_settled_is_settled_by_the_next_owner(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    first, last = await undisturbed(parley)
    charged, most = first.prompt_tokens + first.completion_tokens, 500
    if finish == "length":
        ada, most = await person(parley), first.completion_tokens
    else:
        ada = await with_a_month_of(parley, charged + last.prompt_tokens)
    batch, ending, calls = parley.db.batch, asyncio.Event(), list[str]()
    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", counting(calls))

    async def never_settled(*statements: Any) -> Any:
        if any(statement.sql.startswith("UPDATE generation SET status = $3") for statement in statements):
            ending.set()
            await asyncio.Event().wait()
        return await batch(*statements)

    monkeypatch.setattr(parley.db, "batch", never_settled)
    started = await ask(parley, ada, most=most)
    await asyncio.wait_for(ending.wait(), 10)
    await parley.ownership.close()
    monkeypatch.setattr(parley.db, "batch", batch)
    await goes_on(parley)
    shown, end = await asyncio.wait_for(entries(parley, started.generation_id), 10)
    assert end == ("failed" if finish == "failed" else "done")
    assert len([entry for entry in shown if entry.kind == "tool_result"]) == len(calls) == 1
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.receipt["finish"], view.receipt["attempts"]) == (finish, 2)
    assert [step.status for step in await parley.steps.of(started.generation_id)] == ["done", "done"]
    assert await month(parley, ada) == (charged, 0)


def counting(calls: list[str]) -> Callable[..., Any]:
    real = type(BUILT_IN["calculator"]).run

    async def run(self: Any, arguments: str, key: str) -> str:
        calls.append(key)
        return await real(self, arguments, key)

    return run


@pytest.fixture
async def priced(parley: Parley) -> Identity:
    """Somebody whose model costs something."""
    price = "INSERT INTO price (model, prompt_micro, completion_micro) VALUES ('scripted', 1700000, 5300000)"
    await parley.db.batch(Statement(price, ()))
    return await with_a_month_of(parley, 0)


@given(
    rounds=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 2)), max_size=3),
    length=st.integers(0, 60),
    most=st.integers(1, 300),
    missing=st.integers(0, 40),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_step_is_charged_more_than_it_held(
    parley: Parley, priced: Identity, rounds: list[tuple[int, int]], length: int, most: int, missing: int
) -> None:
    """`rounds`: words and calls of the steps before the last, which has `length` words. In a month without a limit,
    then in one with `missing` tokens fewer than the same took."""
    directive: dict[str, Any] = {"text": words(length)}
    for count, calls in reversed(rounds):
        call = {"name": "calculator", "arguments": ARGUMENTS}
        directive = {"text": words(count), "calls": [call] * calls, "then": directive}
    question = script(**directive)
    whole = await within(parley, priced, None, question, most)
    room = max(0, whole - missing)
    assert await within(parley, priced, room, question, most) <= room


async def within(parley: Parley, who: Identity, room: int | None, question: str, most: int) -> int:
    """What the turn is charged in a month that has `room`, in tokens; checks that each step had held as much."""
    used, _ = await month(parley, who)
    await parley.plans.save("tight", "Tight", None if room is None else used + room, 100_000, 8)
    try:
        started = await ask(parley, who, question, most)
    except TurnError as error:
        assert error.code == "quota_exceeded"
        assert await month(parley, who) == (used, 0)
        return 0
    _, end = await entries(parley, started.generation_id)
    view = await parley.generations.view(who, started.generation_id)
    assert end == "done" or view.receipt["code"] == "quota_exceeded"
    assert view.completion_tokens <= most
    booked = await ledger(parley, started.generation_id)
    steps = [step.seq for step in await parley.steps.of(started.generation_id) if step.kind == "model"]
    assert sorted(booked) == sorted((kind, seq) for kind in ("hold", "settle") for seq in steps)
    for seq in steps:
        (held, held_micro), (charged, charged_micro) = booked["hold", seq], booked["settle", seq]
        assert held >= charged
        assert held_micro >= charged_micro
    whole = sum(booked["settle", seq][0] for seq in steps)
    assert whole == view.prompt_tokens + view.completion_tokens
    assert await month(parley, who) == (used + whole, 0)
    return whole
