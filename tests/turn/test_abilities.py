"""Tools for a model that cannot call them: refused before anything is held, in words that help."""

import pytest

from chat_app.turn.abilities import calls_tools, serves, without_tools
from inference.protocol import ModelCard

PLAIN = ModelCard("plain", 8192, state="ready", abilities=("json_schema",))
ABLE = ModelCard("able", 8192, state="unloaded", abilities=("tools",))
OTHER = ModelCard("other", 8192, state="ready", abilities=("logprobs", "tools"))


@pytest.mark.parametrize(
    ("card", "able"),
    [
        (PLAIN, False),
        (ModelCard("leaving", 1, state="draining"), False),
        (ABLE, True),
        (OTHER, True),
        (ModelCard("sleeping", 1, state="unloaded", abilities=("code",)), None),  # Its engine has not said it yet.
        (ModelCard("foreign", 1), None),
        (ModelCard("foreign", 1, abilities=("vision",)), None),  # Whatever that server means by it.
    ],
)
def test_only_what_is_known_is_said(card: ModelCard, able: bool | None) -> None:
    assert calls_tools(card) is able


def test_the_refusal_names_the_models_that_can() -> None:
    error = without_tools(PLAIN, [PLAIN, ABLE, ModelCard("foreign", 1), OTHER])
    assert (error.code, error.status) == ("bad_input", 400)
    assert error.message == "The model plain cannot call tools. Models here that can: able, other."
    assert without_tools(PLAIN, [PLAIN]).message == "The model plain cannot call tools, and no other here is known to."


def test_who_may_stand_in_for_another() -> None:
    assert serves(PLAIN, 8192, tools=False) and not serves(PLAIN, 8193, tools=False)
    assert serves(OTHER, 8192, tools=True) and not serves(PLAIN, 8192, tools=True)
    assert serves(ModelCard("foreign", 0), 4_096, tools=True) and not serves(ModelCard("foreign", 0), 4_097, tools=True)
