"""Which model writes an answer: today the person's choice, or the deployment's default.

It does not know prices or load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.protocol import ModelCard


class UnknownModel(Exception):
    """The wanted model is not one that the engine offers. `offered` names those that it does."""

    def __init__(self, wanted: str, offered: Sequence[str]) -> None:
        super().__init__(wanted)
        self.wanted = wanted
        self.offered = tuple(offered)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that writes the answer, and why it was taken (`asked` or `default`): the receipt shows it.

    `alternatives` may serve in its place when it cannot, in this order.
    """

    model: ModelCard
    route: str
    alternatives: tuple[ModelCard, ...] = ()


def choose(wanted: str, offered: Sequence[ModelCard], default: str, fallbacks: Sequence[str] = ()) -> Choice:
    """The wanted model if one is named, else the default, else the only one there is. Raises `UnknownModel`.

    Of `fallbacks` (names, the first choice first) those that are offered become the alternatives.
    """
    by_id = {card.id: card for card in offered}
    model, route = _chosen(wanted, by_id, default)
    names = dict.fromkeys(name for name in fallbacks if name in by_id and name != model.id)
    return Choice(model, route, tuple(by_id[name] for name in names))


def _chosen(wanted: str, by_id: dict[str, ModelCard], default: str) -> tuple[ModelCard, str]:
    if wanted:
        if wanted not in by_id:
            raise UnknownModel(wanted, list(by_id))
        return by_id[wanted], "asked"
    if default in by_id:
        return by_id[default], "default"
    if len(by_id) == 1:
        return next(iter(by_id.values())), "default"
    raise UnknownModel(default, list(by_id))
