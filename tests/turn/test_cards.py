"""What is known of the models: how often the engine is asked, and what serves while it cannot say."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chat_app.turn import cards as cards_module
from chat_app.turn.cards import ModelCards, first_able
from chat_app.turn.engine import SOON_S
from inference.protocol import BadRequest, EngineDied, Message, ModelCard, Tool


class Engine:
    """Lists these models, or fails with an error."""

    def __init__(self, *names: str) -> None:
        self.says: list[ModelCard] | Exception = [ModelCard(name, 100) for name in names]
        self.asked = self.counted = 0

    async def models(self) -> list[ModelCard]:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def count(
        self, model: str, messages: Sequence[Message], *, tools: Sequence[Tool] = (), patience: float | None = None
    ) -> int:
        self.counted += 1
        return 10 * len(messages)


def known(engine: Engine) -> ModelCards:
    return ModelCards(engine)  # type: ignore[arg-type]


async def names(cards: ModelCards, wanted: str = "") -> list[str]:
    return [card.id for card in await cards.offered(wanted)]


async def test_models_are_asked_for_once_and_anew_for_one_that_is_not_known() -> None:
    engine = Engine("a")
    cards = known(engine)
    assert [await names(cards), await names(cards), await names(cards, "a")] == [["a"]] * 3
    assert engine.asked == 1
    engine.says = [ModelCard("a", 100), ModelCard("b", 100)]
    assert await names(cards, "b") == ["a", "b"]
    assert engine.asked == 2


async def test_an_old_list_serves_once_more_while_it_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("a")
    cards = known(engine)
    await names(cards)
    monkeypatch.setattr(cards_module, "FRESH_S", -1.0)
    engine.says = [ModelCard("b", 100)]
    assert [await names(cards), await names(cards)] == [["a"], ["a"]]
    monkeypatch.setattr(cards_module, "FRESH_S", 60.0)
    while cards._asking is not None:
        await asyncio.sleep(0)
    assert (await names(cards), engine.asked) == (["b"], 2)


async def test_what_is_known_serves_while_the_engine_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("a")
    cards = known(engine)
    await names(cards)
    engine.says = EngineDied("away")
    cards._asked_at -= 2 * cards_module.FRESH_S
    for _ in range(3):
        assert await names(cards) == ["a"]
        while cards._asking is not None:
            await asyncio.sleep(0)
    assert engine.asked == 2  # Not again before the next look is due.
    cards.forget()
    with pytest.raises(EngineDied):
        await names(cards)


async def test_a_template_is_measured_once_for_each_model_and_window() -> None:
    engine = Engine("a")
    cards = known(engine)
    first = await cards.measure("a", 100)
    once = engine.counted
    assert once > 0
    assert await cards.measure("a", 100) is first
    assert engine.counted == once
    await cards.measure("a", 200)
    assert engine.counted == 2 * once
    cards.forget()
    await cards.measure("a", 100)
    assert engine.counted == 3 * once


@pytest.mark.parametrize(
    ("errors", "outcome", "asked"),
    [
        ({}, "a", [("a", SOON_S)]),
        ({"a": EngineDied("away")}, "b", [("a", SOON_S), ("b", SOON_S)]),
        ({"a": EngineDied("away"), "b": EngineDied("away")}, "c", [("a", SOON_S), ("b", SOON_S), ("c", None)]),
        ({"a": BadRequest("no")}, BadRequest, [("a", SOON_S)]),
        (dict.fromkeys("abc", EngineDied("away")), EngineDied, [("a", SOON_S), ("b", SOON_S), ("c", None)]),
    ],
)
async def test_the_first_that_is_there_and_the_last_with_all_patience(
    errors: dict[str, Exception], outcome: Any, asked: list[tuple[str, float | None]]
) -> None:
    tried: list[tuple[str, float | None]] = []

    async def make(model: str, patience: float | None) -> str:
        tried.append((model, patience))
        if model in errors:
            raise errors[model]
        return model

    if isinstance(outcome, str):
        assert await first_able("abc", make) == outcome
    else:
        with pytest.raises(outcome):
            await first_able("abc", make)
    assert tried == asked
