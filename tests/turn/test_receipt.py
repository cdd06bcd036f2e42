"""The receipt of a turn of several steps: its figures are sums over all of them, as their seals have them."""

import asyncio
import json
import time

import pytest

from chat_app.tools import BUILT_IN
from chat_app.turn import Ask, begin
from chat_app.turn.check import check
from chat_app.turn.receipt import AT_ONCE_MS, _tokens_per_s, elapsed_ms
from chat_app.turn.seal import Sealed
from chat_app.wiring import Parley
from inference.protocol import CannotCount, Message, Sampling
from tests.parley import answer, entries, goes_on, person, script, so_far

CALL = {"name": "calculator", "arguments": json.dumps({"expression": "17 * 23"})}
WORDS = " ".join(f"word{n}" for n in range(60))


async def test_times_and_tokens_are_those_of_all_model_steps(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    run = BUILT_IN["calculator"].run

    def checked(ask: Ask):  # type: ignore[no-untyped-def]
        time.sleep(0.05)
        return check(ask)

    async def slow(_: object, arguments: str, key: str) -> str:
        await asyncio.sleep(0.5)
        return await run(arguments, key)

    monkeypatch.setattr(begin, "check", checked)
    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", slow)
    started = await parley.turns.say(ada, script(text=WORDS, rate=200, calls=[CALL], then={"text": WORDS, "rate": 200}))
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    view = await parley.generations.view(ada, started.generation_id)
    receipt = view.receipt
    first, second = (entry.data for entry in shown if entry.kind == "sealed")
    [tool] = [step for step in await parley.steps.of(started.generation_id) if step.kind == "tool"]

    assert receipt["queue_ms"] == first["began_at"] - view.created_at >= 50
    assert first["first_at"] <= view.created_at + receipt["ttft_ms"] <= first["ended_at"]
    assert first["ended_at"] + 500 <= tool.finished_at <= second["began_at"] <= second["first_at"]
    flow_ms = sum(seal["ended_at"] - seal["first_at"] for seal in (first, second))
    assert receipt["tokens_per_s"] == round(view.completion_tokens / flow_ms * 1000, 1)
    assert view.completion_tokens == first["completion_tokens"] + second["completion_tokens"] > 120
    assert receipt["screen_ms"] == round((first["screen_us"] + second["screen_us"]) / 1000, 2)
    assert 0 < second["screen_us"] < first["screen_us"] + second["screen_us"]
    assert "estimated" not in receipt

    [row] = await parley.db.query("SELECT payload FROM event WHERE id = $1", started.generation_id)
    event = json.loads(row["payload"])
    names = ("queue_ms", "ttft_ms", "tokens_per_s")
    assert [event[name] for name in names] == [receipt[name] for name in names]


async def test_the_time_of_a_tool_that_ends_the_turn_is_no_writing_time(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, run = await person(parley), BUILT_IN["calculator"].run

    async def slow(_: object, arguments: str, key: str) -> str:
        await asyncio.sleep(0.5)
        return await run(arguments, key)

    question = Message("user", script(text=WORDS, rate=200, calls=[CALL]))
    calling = await parley.turns.call(ada, [question], built_in=["calculator"])
    await answer(parley, calling.generation_id)
    first, *_ = await parley.steps.of(calling.generation_id)
    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", slow)
    most = Sampling(max_tokens=first.completion_tokens)
    started = await parley.turns.call(ada, [question], sampling=most, built_in=["calculator"])
    shown, end = await entries(parley, started.generation_id)
    assert (shown[-1].kind, shown[-1].data["finish"], end) == ("sealed", "length", "done")
    model, tool = (entry.data for entry in shown if entry.kind == "sealed")
    flow_ms = model["ended_at"] - model["first_at"]
    assert tool["ended_at"] - model["ended_at"] >= 500
    view = await parley.generations.view(ada, started.generation_id)
    assert view.receipt["tokens_per_s"] == round(model["completion_tokens"] / flow_ms * 1000, 1)
    assert abs(view.created_at + view.receipt["ttft_ms"] - model["first_at"]) < 100


async def test_there_is_a_line_for_each_of_several_steps(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(text=WORDS, rate=0, calls=[CALL], then={"text": "It is 391."}))
    assert (await entries(parley, started.generation_id))[1] == "done"
    first, tool, last = await parley.steps.of(started.generation_id)
    assert 0 < first.prompt_tokens != last.prompt_tokens and 0 < last.completion_tokens < first.completion_tokens
    spent = [(step.finished_at or 0) - step.started_at for step in (first, tool, last)]
    receipt = (await parley.generations.view(ada, started.generation_id)).receipt
    assert receipt["steps"] == [
        _line("scripted", first.prompt_tokens, first.completion_tokens, spent[0]),
        {"kind": "tool", "name": "calculator", "status": "done", "ms": spent[1]},
        _line("scripted", last.prompt_tokens, last.completion_tokens, spent[2]),
    ]


def _line(model: str, prompt: int, completion: int, ms: int) -> dict[str, object]:
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"kind": "model", "model": model, "status": "done", **tokens, "ms": ms}


async def test_what_one_step_estimated_is_said_of_the_turn(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(text=WORDS, rate=100, calls=[CALL], then={"text": WORDS, "rate": 0}))
    await so_far(parley, started.generation_id, more_than=100)
    await parley.ownership.close()

    async def cannot(*_: object) -> int:
        raise CannotCount("not here")

    monkeypatch.setattr(parley.client, "count", cannot)
    await goes_on(parley)
    shown, end = await entries(parley, started.generation_id)
    assert end == "done"
    assert [entry.data["estimated"] for entry in shown if entry.kind == "sealed"] == [True, False]
    receipt = (await parley.generations.view(ada, started.generation_id)).receipt
    assert receipt["estimated"] is True
    untimed = ("queue_ms", "ttft_ms", "tokens_per_s")
    assert [receipt[name] for name in untimed] == [None] * 3, "they would blame the engine for the crash"


async def test_a_lone_step_has_its_own_figures(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(text=WORDS, rate=300))
    shown, _ = await entries(parley, started.generation_id)
    [seal] = [entry.data for entry in shown if entry.kind == "sealed"]
    view = await parley.generations.view(ada, started.generation_id)
    assert view.receipt["queue_ms"] == seal["began_at"] - view.created_at
    flow_ms = seal["ended_at"] - seal["first_at"]
    assert view.receipt["tokens_per_s"] == round(60 / flow_ms * 1000, 1)
    assert "steps" not in view.receipt
    for short in (script(tokens=1, rate=0), script(tokens=6, rate=0)):  # One token, and one piece of text.
        single = await parley.turns.say(ada, short)
        await answer(parley, single.generation_id)
        assert (await parley.generations.view(ada, single.generation_id)).receipt["tokens_per_s"] is None


def wrote(tokens: int, first_at: int | None = 1_000, ended_at: int = 1_000) -> Sealed:
    return Sealed(1, "m", "stop", completion_tokens=tokens, first_at=first_at, ended_at=ended_at)


@pytest.mark.parametrize(
    ("ends", "speed"),
    [
        ([], None),
        ([wrote(1, ended_at=2_000)], None),
        ([wrote(2, ended_at=2_000)], 2.0),
        ([wrote(1, ended_at=1_500), wrote(1, ended_at=1_250)], 2.7),
        ([wrote(3, None), wrote(3, ended_at=4_000)], 2.0),
        ([wrote(5, ended_at=1_000 + AT_ONCE_MS)], 100.0),
        ([wrote(5, ended_at=1_000 + AT_ONCE_MS - 1)], None),
        ([wrote(5)], None),  # All came at once.
        ([wrote(5), wrote(5, ended_at=999)], None),  # The clock was put back.
    ],
)
def test_the_speed_is_that_of_the_times_in_which_something_was_written(ends: list[Sealed], speed: float | None) -> None:
    assert _tokens_per_s(ends) == speed


@pytest.mark.parametrize(("since", "until", "ms"), [(5, 9, 4), (5, 5, 0), (9, 5, 0)])
def test_no_time_is_negative(since: int, until: int, ms: int) -> None:
    assert elapsed_ms(since, until) == ms
