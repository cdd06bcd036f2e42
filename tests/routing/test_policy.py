import pytest

from chat_app.routing.policy import UnknownModel, choose
from inference.protocol import ModelCard

SMALL, LARGE = ModelCard("small", 8192), ModelCard("large", 32768)


def test_the_named_model_is_taken() -> None:
    assert choose("large", [SMALL, LARGE], "small").model == LARGE
    assert choose("large", [SMALL, LARGE], "small").route == "asked"


def test_without_a_name_the_default_or_the_only_one() -> None:
    assert choose("", [SMALL, LARGE], "small").model == SMALL
    assert choose("", [LARGE], "small").model == LARGE


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(UnknownModel) as error:
        choose("gone", [SMALL, LARGE], "small")
    assert error.value.offered == ("small", "large")
    with pytest.raises(UnknownModel):
        choose("", [], "small")
