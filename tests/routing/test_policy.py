import pytest

from chat_app.routing.policy import UnknownModel, choose
from inference.protocol import ModelCard

SMALL, LARGE, HUGE = ModelCard("small", 8192), ModelCard("large", 32768), ModelCard("huge", 131072)


def test_the_named_model_is_taken() -> None:
    assert choose("large", [SMALL, LARGE], "small").model == LARGE
    assert choose("large", [SMALL, LARGE], "small").route == "asked"


def test_without_a_name_the_default_or_the_only_one() -> None:
    assert choose("", [SMALL, LARGE], "small").model == SMALL
    assert choose("", [LARGE], "small").model == LARGE
    assert choose("", [SMALL, LARGE], "small").route == choose("", [LARGE], "small").route == "default"


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(UnknownModel) as error:
        choose("gone", [SMALL, LARGE], "small")
    assert error.value.offered == ("small", "large")
    assert error.value.wanted == "gone"
    with pytest.raises(UnknownModel):
        choose("", [], "small")


def test_a_named_model_is_not_replaced_by_the_only_one_or_the_default() -> None:
    with pytest.raises(UnknownModel):
        choose("gone", [SMALL], "small")
    with pytest.raises(UnknownModel) as error:
        choose("", [SMALL, LARGE], "gone")
    assert error.value.wanted == "gone"


def test_alternatives_are_the_fallbacks_in_their_order_as_far_as_they_are_offered() -> None:
    offered = [SMALL, LARGE, HUGE]
    assert choose("small", offered, "small", ["huge", "gone", "large"]).alternatives == (HUGE, LARGE)
    assert choose("", offered, "small", ["large", "huge"]).alternatives == (LARGE, HUGE)


def test_the_chosen_model_is_never_its_own_alternative_and_none_is_named_twice() -> None:
    assert choose("huge", [SMALL, HUGE], "small", ["huge", "small", "huge", "small"]).alternatives == (SMALL,)


def test_there_is_no_alternative_that_nobody_set() -> None:
    assert choose("large", [SMALL, LARGE], "small").alternatives == ()


def test_an_alternative_never_stands_in_for_a_model_that_is_not_offered() -> None:
    with pytest.raises(UnknownModel):
        choose("gone", [SMALL, LARGE], "small", ["large"])
