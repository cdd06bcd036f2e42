"""The tokens of one step: whose count is believed, on each way that an engine can say it."""

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from chat_app.prompts.parts import conversation
from chat_app.prompts.prompt import Prompt
from chat_app.turn.token_counter import TokenCounter
from inference.protocol import CannotCount, Chunk, EngineDied, Message, Tool, Usage

SAID = tuple(conversation([Message("user", "x")], "", "request"))
ESTIMATED = Prompt(SAID, tokens=90, counted=False)
COUNTED = Prompt(SAID, tokens=70, counted=True)


class Engine:
    """Counts 50 tokens for a prompt and one more for each character that continues it; or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.patience: list[float | None] = []

    async def count(
        self,
        model: str,
        messages: Sequence[Message],
        continue_from: str = "",
        tools: Sequence[Tool] = (),
        patience: float | None = None,
    ) -> int:
        self.patience.append(patience)
        if self.error is not None:
            raise self.error
        return 50 + len(continue_from)


def counter(prompt: Prompt, engine: Engine | None = None) -> TokenCounter:
    made: Any = TokenCounter(engine or Engine())  # type: ignore[arg-type]
    made.prompt = prompt
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("prompt", "chunks", "tokens"),
    [
        (COUNTED, [Chunk("a", 1, prompt_tokens=60), Chunk("", 0, "stop", Usage(55, 1))], 70),
        (ESTIMATED, [Chunk("a", 1, prompt_tokens=60), Chunk("b", 1, prompt_tokens=61)], 60),
        (ESTIMATED, [Chunk("a", 1), Chunk("b", 1, prompt_tokens=61)], 61),
        (ESTIMATED, [Chunk("a", 1, prompt_tokens=60), Chunk("", 0, "stop", Usage(55, 1))], 60),
        (ESTIMATED, [Chunk("a", 1), Chunk("", 0, "stop", Usage(55, 1))], 55),
        (ESTIMATED, [Chunk("a", 1)], 50),
    ],
    ids=["counted before", "the first that says it", "said later", "said and used", "used", "nobody said it"],
)
async def test_the_prompt_is_what_who_knows_first_says(prompt: Prompt, chunks: list[Chunk], tokens: int) -> None:
    counts = counter(prompt)
    for chunk in chunks:
        counts.take(chunk)
    assert await counts.read("m") == await counts.read("m") == tokens
    assert not counts.estimated


async def test_an_engine_that_cannot_count_charges_no_prompt_and_says_so() -> None:
    counts = counter(ESTIMATED, Engine(CannotCount("no")))
    counts.take(Chunk("a", 1))
    assert await counts.read("m") == 0
    assert counts.estimated


async def test_usage_decides_what_was_written_and_what_was_cached() -> None:
    counts = counter(COUNTED)
    counts.take(Chunk("a", 2))
    counts.take(Chunk("b", 3))
    assert (counts.generated, counts.cached) == (5, 0)
    counts.take(Chunk("", 0, "stop", Usage(70, 4, 30)))
    assert (counts.generated, counts.cached) == (4, 30)


async def test_the_first_token_is_the_first_that_carries_something() -> None:
    counts = counter(COUNTED)
    counts.take(Chunk("", 0, prompt_tokens=70))
    assert counts.first_at is None
    counts.take(Chunk("", 1))
    first = counts.first_at
    assert first is not None
    counts.take(Chunk("", 0, reasoning="why"))
    assert counts.first_at == first
    for chunk in (Chunk("a", 0), Chunk("", 0, reasoning="why")):
        other = counter(COUNTED)
        other.take(chunk)
        assert other.first_at is not None


async def test_what_an_earlier_owner_delivered_is_counted_as_long_as_it_takes() -> None:
    engine = Engine()
    counts = counter(ESTIMATED, engine)
    await counts.take_over("m", "text", "reason")
    assert engine.patience == [inf, inf]
    assert counts.generated == 10
    counts.take(Chunk("a", 2, prompt_tokens=99))
    counts.take(Chunk("", 0, "stop", Usage(99, 2, 40)))
    assert (counts.generated, counts.cached, await counts.read("m")) == (12, 0, 50)
    assert not counts.estimated


async def test_a_beginning_that_no_engine_counts_is_estimated_and_said_to_be() -> None:
    for text, reasoning, tokens in (("x" * 17, "y" * 4, 5), ("x", "", 1), ("", "", 1)):
        counts = counter(COUNTED, Engine(CannotCount("no")))
        await counts.take_over("m", text, reasoning)
        assert (counts.generated, counts.estimated) == (tokens, True)


async def test_an_engine_that_dies_meanwhile_is_an_error() -> None:
    with pytest.raises(EngineDied):
        await counter(COUNTED, Engine(EngineDied("away"))).take_over("m", "text", "")
