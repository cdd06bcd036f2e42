"""Gathering: the same text in fewer chunks, nothing held that somebody waits for, nothing lost or left running."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.pacing import paced
from inference.protocol import Chunk, EngineDied, Logprob, Picked, Usage
from tests.inference.conftest import Live, request, script, text_of

USAGE = Usage(3, 4)


async def source(*steps: tuple[str, float], fails: bool = False) -> AsyncGenerator[Chunk, None]:
    """Each text after its pause in seconds, one token each; then a finish, or the engine's death."""
    for text, pause in steps:
        await asyncio.sleep(pause)
        yield Chunk(text, 1)
    if fails:
        raise EngineDied("died")
    yield Chunk("", 0, "stop", USAGE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from([0, 0, 0.001])), max_size=8))
def test_text_tokens_and_end_are_those_of_the_source(steps: list[tuple[str, float]]) -> None:
    async def run() -> list[Chunk]:
        return [chunk async for chunk in paced(source(*steps), lambda: 0.002)]

    chunks = asyncio.run(run())
    assert text_of(chunks) == "".join(text for text, _ in steps)
    assert sum(chunk.tokens for chunk in chunks) == len(steps)
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].finish, chunks[-1].usage) == ("stop", USAGE)


async def test_the_first_text_and_the_end_are_not_held() -> None:
    steps = [("a", 0.0), ("b", 0.01), ("c", 0.01)]
    chunks = [chunk.text async for chunk in paced(source(*steps), lambda: 60)]
    assert chunks == ["a", "bc"]


async def test_gathered_log_probabilities_stay_in_order() -> None:
    async def pieces() -> AsyncGenerator[Chunk, None]:
        for number in range(6):
            yield Chunk(str(number), 1, logprobs=(Picked(Logprob(str(number), -1.0)),))
            await asyncio.sleep(0.001)
        yield Chunk("", 1, "stop", USAGE, (Picked(Logprob("", -2.0)),))

    chunks = [chunk async for chunk in paced(pieces(), lambda: 60)]
    assert len(chunks) == 2
    for chunk in chunks:
        assert "".join(picked.chosen.token for picked in chunk.logprobs) == chunk.text
        assert len(chunk.logprobs) == chunk.tokens


async def test_an_error_comes_behind_what_was_gathered() -> None:
    seen = ""
    with pytest.raises(EngineDied):
        async for chunk in paced(source(("a", 0), ("b", 0.01), ("c", 0.01), fails=True), lambda: 60):
            seen += chunk.text
    assert seen == "abc"


async def test_leaving_closes_the_source_at_once() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk("a", 1)
            await asyncio.sleep(3600)
        finally:
            closed.set()

    async with aclosing(paced(endless(), lambda: 0.01)) as chunks:
        assert (await anext(chunks)).text == "a"
    assert closed.is_set()


async def test_a_reader_that_asks_gets_fewer_events_of_the_same_answer(scripted: Live) -> None:
    asked = request(script(tokens=40, rate=400), max_tokens=100)
    client = scripted.client()
    every = [chunk async for chunk in client.stream(asked)]
    gathered = [chunk async for chunk in client.stream(replace(asked, gather_ms=100))]
    await client.close()
    assert text_of(every) == text_of(gathered)
    assert sum(chunk.tokens for chunk in gathered) == sum(chunk.tokens for chunk in every)
    assert len(gathered) < len(every) / 2
