"""Three models that all break: who is asked, in which order, when nobody else may go on, and what is held for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chat_app.data.db.base import Statement
from chat_app.wiring import Parley
from inference.protocol import Chunk, Damaged, ModelCard, Request
from tests.parley import StartParley, entries, fleet_settings, person, script

HALF = "Half of an answer is there, and is read, before the model breaks. " * 4


@dataclass(slots=True)
class Breaking:
    """A Parley whose models each say something (`said`, by name; nothing by default), and then break."""

    parley: Parley
    said: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request.model)
        if said := self.said.get(request.model):
            yield Chunk(said, 40, prompt_tokens=9)
        raise Damaged("its file is damaged")


@pytest.fixture(params=["embedded", "fleet"])
async def breaking(
    request: pytest.FixtureRequest, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Breaking]:
    stores = fleet_settings(request) if request.param == "fleet" else {}
    parley = await start_parley(**stores, fallback_models="second,third")
    breaking = Breaking(parley)
    [card], count = await parley.client.models(), parley.client.count

    async def models() -> list[ModelCard]:
        return [card, replace(card, id="second"), replace(card, id="third")]

    async def counted(_: str, *args: Any, **kwargs: Any) -> int:
        return await count("scripted", *args, **kwargs)

    monkeypatch.setattr(parley.client, "models", models)
    monkeypatch.setattr(parley.client, "count", counted)
    monkeypatch.setattr(parley.client, "stream", breaking.stream)
    yield breaking


async def test_each_model_is_asked_once_and_in_order(breaking: Breaking) -> None:
    ada = await person(breaking.parley)
    started = await breaking.parley.turns.say(ada, script(tokens=1))
    shown, end = await asyncio.wait_for(entries(breaking.parley, started.generation_id), 10)
    assert end == "failed"
    assert breaking.asked == ["scripted", "second", "third"]
    assert [entry.data for entry in shown if entry.kind == "status"] == [{"model": "second"}, {"model": "third"}]


@pytest.mark.parametrize("speaks", ["scripted", "second"])
async def test_no_model_goes_on_with_what_another_has_said(breaking: Breaking, speaks: str) -> None:
    ada = await person(breaking.parley)
    breaking.said = {speaks: HALF, "third": "Something else."}
    started = await breaking.parley.turns.say(ada, script(tokens=1))
    shown, end = await asyncio.wait_for(entries(breaking.parley, started.generation_id), 10)
    assert breaking.asked == ["scripted", "second"][: 1 + (speaks == "second")]
    assert ("".join(entry.text for entry in shown if entry.kind == "text"), end) == (HALF, "failed")
    view = await breaking.parley.generations.view(ada, started.generation_id)
    assert (view.model, view.completion_tokens) == (speaks, 40)


@pytest.mark.parametrize("dear", ["scripted", "second", "third"])
async def test_the_hold_is_for_the_dearest_that_may_serve(breaking: Breaking, dear: str) -> None:
    parley = breaking.parley
    ada = await person(parley)
    for model in ("scripted", "second", "third"):
        each = 1_000_000 * (1 + 8 * (model == dear))
        await parley.db.batch(
            Statement(
                "INSERT INTO price (model, prompt_micro, completion_micro) VALUES ($1, $2, $3)", (model, each, each)
            )
        )
    started = await parley.turns.say(ada, script(tokens=1))
    await entries(parley, started.generation_id)
    [hold] = await parley.db.query(
        "SELECT tokens, cost_micro FROM ledger WHERE generation_id = $1 AND kind = 'hold'", started.generation_id
    )
    assert hold["cost_micro"] == 9 * hold["tokens"] > 0
