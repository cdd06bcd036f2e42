"""What this process knows of the models that are offered: their cards, and how many tokens their templates add.

Both are asked of the engine and kept for a few seconds, so that a turn waits for neither; an engine that was restarted
with another window or other models is seen that soon, and at once when a turn runs into it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from chat_app.prompts.measure import Count, Measure, measured
from chat_app.turn.engine import SOON_S, Engine, at_fault
from inference.protocol import EngineError, Message, ModelCard, Tool

FRESH_S = 5.0
"""How old a list of models may be before it is asked for again, behind the turn that uses it."""


T = TypeVar("T")
R = TypeVar("R")


class ModelCards:
    """The models of one engine or fleet."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cards: list[ModelCard] = []
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._measures: dict[tuple[str, int], Measure] = {}

    async def offered(self, wanted: str = "") -> list[ModelCard]:
        """The models; asked for anew if none are known, or not this one. Raises `EngineError`."""
        if not self._cards or (wanted and wanted not in {card.id for card in self._cards}):
            await self._ask()
        elif asyncio.get_running_loop().time() - self._asked_at > FRESH_S and self._asking is None:
            self._asking = asyncio.create_task(self._ask_quietly(), name="models asked for")
        return self._cards

    async def measure(self, model: str, context: int, patience: float | None = None) -> Measure:
        """Tokens that the model's template adds; the cautious default where the engine cannot count. Raises
        `EngineError`."""
        key = model, context
        if key not in self._measures:
            self._measures[key] = await measured(self.counter(model, patience))
        return self._measures[key]

    def counter(self, model: str, patience: float | None = None) -> Count:
        """How prompts are counted for this model, which is waited for so many seconds (None: the engine's own patience)
        while it is gone or busy."""

        async def count(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
            return await self._engine.count(model, messages, tools=tools, patience=patience)

        return count

    def forget(self) -> None:
        """What is known turned out to be wrong: ask before the next turn."""
        self._cards, self._measures = [], {}

    async def _ask(self) -> None:
        self._cards = await self._engine.models()
        self._asked_at = asyncio.get_running_loop().time()

    async def _ask_quietly(self) -> None:
        try:
            await self._ask()
        except EngineError:
            self._asked_at = asyncio.get_running_loop().time()  # What is known serves until a turn fails with it.
        finally:
            self._asking = None


async def first_able(models: Sequence[T], make: Callable[[T, float | None], Awaitable[R]]) -> R:
    """What `make` returns with the first of these models that is there; its second argument is the patience for it.

    Raises what `make` raises with the last one, or when the request is at fault.
    """
    *others, last = models
    for one in others:
        try:
            return await make(one, SOON_S)
        except EngineError as error:
            if at_fault(error):
                raise
    return await make(last, None)
