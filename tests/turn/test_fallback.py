"""When the chosen model is gone: who stands in for it, how soon, what is recorded and what is charged."""

import asyncio
import json

import pytest

from chat_app.accounts.identity import Identity
from chat_app.tools import BUILT_IN
from tests.parley import answer, entries, expected, goes_on, person, script, so_far
from tests.turn.conftest import CHEAP, DEAR, Pair

CALL = {"name": "calculator", "arguments": json.dumps({"expression": "17 * 23"})}


async def warmed(pair: Pair, who: Identity) -> None:
    """A turn that nothing disturbs, so that this process knows both models."""
    started = await pair.parley.turns.say(who, script(tokens=1, rate=0))
    assert (await answer(pair.parley, started.generation_id))[1] == "done"
    assert pair.asked == ["first"]
    pair.asked.clear()


async def test_another_model_stands_in_within_seconds_and_is_recorded_and_charged(pair: Pair) -> None:
    parley = pair.parley
    ada = await person(parley)
    await warmed(pair, ada)
    before = (await parley.ledger.allowance(ada.user_id, None)).used_micro
    pair.first.kill()
    async with asyncio.timeout(15):
        started = await parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
        shown, end = await entries(parley, started.generation_id)
    assert ("".join(entry.text for entry in shown if entry.kind == "text"), end) == (expected(question), "done")
    assert pair.asked == ["first", "second"]
    assert {"model": "second"} in [entry.data for entry in shown if entry.kind == "status"]

    view = await pair.view(ada, started)
    assert (view.model, view.receipt["model"]) == ("second", "second")
    [step] = await parley.steps.of(started.generation_id)
    assert (step.model, step.prompt_micro, step.completion_micro) == (
        "second",
        CHEAP.prompt_micro,
        CHEAP.completion_micro,
    )
    [event] = await parley.db.query("SELECT payload FROM event WHERE id = $1", started.generation_id)
    assert json.loads(event["payload"])["model"] == "second"

    hold, settle = await parley.db.query(
        "SELECT kind, tokens, cost_micro FROM ledger WHERE generation_id = $1 ORDER BY kind", started.generation_id
    )
    assert (hold["kind"], settle["kind"]) == ("hold", "settle")
    most = parley.settings.max_output_tokens
    assert hold["cost_micro"] == DEAR.cost(hold["tokens"] - most, most), "held for the dearest that may serve"
    price = CHEAP.cost(view.prompt_tokens, 30)
    assert settle["cost_micro"] == view.cost_micro == price > 0
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used_micro - before, month.held_micro, month.held) == (price, 0, 0)


async def test_a_model_that_is_gone_from_the_beginning_is_not_waited_for(pair: Pair) -> None:
    ada = await person(pair.parley)
    assert {card.id for card in await pair.parley.engine.models()} == {"first", "second"}
    pair.first.kill()
    async with asyncio.timeout(15):
        started = await pair.parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
        assert await answer(pair.parley, started.generation_id) == (expected(question), "done")
    view = await pair.view(ada, started)
    assert (view.model, view.receipt["model"], await pair.models_of_steps(started)) == ("second", "second", ["second"])


async def test_the_last_model_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.turn.stream.SOON_S", 0.2)
    ada = await person(pair.parley)
    await warmed(pair, ada)
    pair.first.kill()
    pair.second.kill()
    started = await pair.parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
    await asyncio.sleep(1.5)
    assert pair.asked == ["first", "second"]
    pair.second.start()
    assert await asyncio.wait_for(answer(pair.parley, started.generation_id), 15) == (expected(question), "done")


@pytest.mark.parametrize(("refuse", "code"), [("bad", "bad_input"), ("context", "context_too_long")])
async def test_what_no_model_would_take_is_not_tried_with_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, refuse: str, code: str
) -> None:
    ada = await person(pair.parley)
    await warmed(pair, ada)
    listed, models = list[str](), pair.parley.client.models

    async def listing():  # type: ignore[no-untyped-def]
        listed.append("asked")
        return await models()

    monkeypatch.setattr(pair.parley.client, "models", listing)
    monkeypatch.setattr("chat_app.turn.cards.FRESH_S", 600)
    started = await pair.parley.turns.say(ada, script(refuse=refuse))
    assert await answer(pair.parley, started.generation_id) == ("", "failed")
    assert pair.asked == ["first"]
    view = await pair.view(ada, started)
    assert (view.model, view.receipt["code"], view.cost_micro) == ("first", code, 0)
    after = await pair.parley.turns.say(ada, script(tokens=1, rate=0))
    assert (await answer(pair.parley, after.generation_id))[1] == "done"
    assert listed == [], "nothing is wrong with the models that are known"


async def test_a_turn_that_is_taken_over_goes_on_with_the_model_that_began(pair: Pair) -> None:
    parley = pair.parley
    ada = await person(parley)
    await warmed(pair, ada)
    pair.first.kill()
    started = await parley.turns.say(ada, question := script(tokens=200, rate=150, seed=8))
    await so_far(parley, started.generation_id, more_than=100)
    await parley.ownership.close()
    pair.asked.clear()
    pair.first.start()
    await goes_on(parley)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    assert pair.asked == ["second"]
    view = await pair.view(ada, started)
    assert (view.model, view.receipt["attempts"], view.completion_tokens) == ("second", 2, 200)
    assert view.cost_micro == CHEAP.cost(view.prompt_tokens, 200)


async def test_further_steps_stay_with_the_model_that_stood_in(pair: Pair) -> None:
    ada = await person(pair.parley)
    await warmed(pair, ada)
    pair.first.kill()
    started = await pair.parley.turns.say(ada, script(text="Let me see.", calls=[CALL]))
    assert await asyncio.wait_for(answer(pair.parley, started.generation_id), 20) == (
        "Let me see.\n\nThe result is 391.",
        "done",
    )
    assert pair.asked == ["first", "second"]
    assert await pair.models_of_steps(started) == ["second", "second"]
    view = await pair.view(ada, started)
    assert view.cost_micro == CHEAP.cost(view.prompt_tokens, view.completion_tokens)


async def test_a_further_step_whose_model_is_gone_is_served_by_another(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BUILT_IN["calculator"].run

    async def last_thing_seen(_: object, arguments: str, key: str) -> str:
        pair.first.kill()
        return await run(arguments, key)

    monkeypatch.setattr(type(BUILT_IN["calculator"]), "run", last_thing_seen)
    ada = await person(pair.parley)
    await warmed(pair, ada)
    started = await pair.parley.turns.say(ada, script(text="Let me see.", calls=[CALL]))
    whole = "Let me see.\n\nThe result is 391.", "done"
    assert await asyncio.wait_for(answer(pair.parley, started.generation_id), 20) == whole
    assert pair.asked == ["first", "second"]
    assert await pair.models_of_steps(started) == ["first", "second"]
    first, _, last = await pair.parley.steps.of(started.generation_id)
    assert first.cost_micro == DEAR.cost(first.prompt_tokens, first.completion_tokens)
    assert last.cost_micro == CHEAP.cost(last.prompt_tokens, last.completion_tokens)
    view = await pair.view(ada, started)
    assert (view.model, view.cost_micro) == ("second", first.cost_micro + last.cost_micro)
