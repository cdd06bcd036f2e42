"""The prompt of a further step, where its engine is not there or its model has changed."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from chat_app.prompts.measure import Measure
from chat_app.prompts.parts import conversation
from chat_app.prompts.prompt import Prompt
from chat_app.turn import TurnError
from chat_app.turn.next_prompt import NextPrompts
from inference.protocol import EngineDied, EngineError, Message, Sampling

PROMPT = Prompt(tuple(conversation([Message("user", "x")], "", "request")), tokens=20, counted=True, kept=1)


@dataclass(frozen=True)
class Candidate:
    model: str
    context: int = 1_000


@dataclass(frozen=True)
class Job:
    model: str = "first"

    prompt = PROMPT
    candidates = (Candidate("first"), Candidate("second"))
    sampling = Sampling(max_tokens=10)

    @property
    def row(self) -> Any:
        return self

    @property
    def remaining(self) -> tuple[Candidate, ...]:
        return self.candidates


class Cards:
    """Counts nothing, or fails."""

    def __init__(self, error: EngineError | None = None) -> None:
        self.error = error

    def counter(self, model: str, patience: float | None = None) -> Any:
        async def count(messages: Any, tools: Any) -> int:
            raise AssertionError

        return count

    async def measure(self, model: str, context: int, patience: float | None = None) -> Measure:
        if self.error is not None:
            raise self.error
        return Measure()


async def test_a_first_step_reads_what_was_prepared() -> None:
    prompts = NextPrompts(Cards(EngineDied("away")))  # type: ignore[arg-type]
    assert await prompts.of(Job(), ()) == PROMPT  # type: ignore[arg-type]
    assert await prompts.of(Job("second"), ()) == replace(PROMPT, counted=False)  # type: ignore[arg-type]


async def test_an_engine_that_is_away_is_said_in_a_persons_words() -> None:
    with pytest.raises(TurnError) as raised:
        await NextPrompts(Cards(EngineDied("away"))).of(Job(), [Message("assistant", "y")])  # type: ignore[arg-type]
    assert raised.value.status == 503
