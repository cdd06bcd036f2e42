"""Preparation alone: which model, which window, and how long an answer may be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.billing.plans import Terms
from chat_app.settings import Settings
from chat_app.turn.abilities import UNKNOWN_CONTEXT
from chat_app.turn.ask import Ask, TurnError
from chat_app.turn.prepare import Preparation
from inference.protocol import Message, ModelCard, Sampling

ADA = Identity("u", "t", "ada@example.org", "Ada", "user", "free")
ASK = Ask(ADA, "api", (Message("user", "x"),), "wanted")
TERMS = Terms("free", "Free", 100_000, 60, 2, 300, 1)


class Cards:
    """Offers these models."""

    def __init__(self, *cards: ModelCard) -> None:
        self.cards = cards

    async def offered(self, wanted: str = "") -> Sequence[ModelCard]:
        return self.cards


def preparation(*cards: ModelCard, **settings: Any) -> Preparation:
    return Preparation(Settings(**settings), Cards(*cards), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("windows", "widest"), [([], UNKNOWN_CONTEXT), ([0], UNKNOWN_CONTEXT), ([512, 8_192, 0], 8_192)]
)
async def test_the_widest_window_is_one_that_is_offered(windows: list[int], widest: int) -> None:
    cards = [ModelCard(f"m{number}", window) for number, window in enumerate(windows)]
    assert await preparation(*cards).largest_context("m0") == widest


@pytest.mark.parametrize(
    ("cards", "words"), [([], "none at the moment"), ([ModelCard("a", 1), ModelCard("b", 1)], "a, b")]
)
async def test_an_unknown_model_is_said_with_those_that_there_are(cards: list[ModelCard], words: str) -> None:
    with pytest.raises(TurnError, match=f"no model “wanted” here. Offered: {words}") as raised:
        await preparation(*cards).choose(ASK)
    assert (raised.value.code, raised.value.status) == ("model_unknown", 404)


@pytest.mark.parametrize(
    ("asked", "plan", "installation", "most"),
    [
        (None, 300, 500, 300),
        (None, None, 500, 500),
        (0, 300, 500, 300),
        (200, 300, 500, 200),
        (400, 300, 500, 300),
        (400, 600, 350, 350),
    ],
)
def test_an_answer_is_as_long_as_everybody_allows(
    asked: int | None, plan: int | None, installation: int, most: int
) -> None:
    sampling = None if asked is None else Sampling(max_tokens=asked, temperature=0.1)
    prepared = preparation(max_output_tokens=installation, temperature=0.7)._sampling(
        replace(ASK, sampling=sampling), replace(TERMS, max_output_tokens=plan)
    )
    assert prepared.max_tokens == most
    assert prepared.temperature == (0.7 if asked is None else 0.1)
