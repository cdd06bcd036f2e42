"""Whether a model can do what a turn asks of it, by what its card says. It asks no engine."""

from collections.abc import Sequence

from chat_app.turn.ask import TurnError
from inference.protocol import ModelCard

_LOADED = ("ready", "draining")
"""States in which our own service lists all abilities of a model; before it was loaded only those of its catalogue."""


UNKNOWN_CONTEXT = 4_096
"""Window in tokens of a model whose server does not say."""


def within(models: Sequence[str], cards: Sequence[ModelCard]) -> list[ModelCard]:
    """Those of the cards that somebody may use who may use these models; all if none is named."""
    return [card for card in cards if not models or card.id in models]


def window(card: ModelCard) -> int:
    """Tokens that a prompt and its answer may have together."""
    return card.context or UNKNOWN_CONTEXT


def serves(card: ModelCard, context: int, tools: bool) -> bool:
    """Whether the model may stand in for another, of a turn with this window, with or without tools."""
    return window(card) >= context and not (tools and calls_tools(card) is False)


def calls_tools(card: ModelCard) -> bool | None:
    """Whether the model can call tools. None if nobody knows: servers of other makes do not say, and a model that was
    never loaded may be about to learn it."""
    if "tools" in card.abilities:
        return True
    return False if card.state in _LOADED else None


def without_tools(card: ModelCard, offered: Sequence[ModelCard]) -> TurnError:
    """Why a turn with tools does not begin with this model, and which of the offered ones it could have."""
    able = ", ".join(other.id for other in offered if calls_tools(other))
    others = f". Models here that can: {able}." if able else ", and no other here is known to."
    return TurnError("bad_input", f"The model {card.id} cannot call tools{others}")
