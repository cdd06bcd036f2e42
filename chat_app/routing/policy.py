"""Which model answers: today the person's choice, or the deployment's default. It does not know prices or load."""

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
    """The model that answers, and why it was taken (`asked` or `default`): the receipt shows it."""

    model: ModelCard
    route: str


def choose(wanted: str, offered: Sequence[ModelCard], default: str) -> Choice:
    """The wanted model if one is named, else the default, else the only one there is. Raises `UnknownModel`."""
    by_id = {card.id: card for card in offered}
    if wanted:
        if wanted not in by_id:
            raise UnknownModel(wanted, list(by_id))
        return Choice(by_id[wanted], "asked")
    if default in by_id:
        return Choice(by_id[default], "default")
    if len(by_id) == 1:
        return Choice(next(iter(by_id.values())), "default")
    raise UnknownModel(default, list(by_id))
