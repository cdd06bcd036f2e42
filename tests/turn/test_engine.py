"""The stream of an engine that somebody may stop: closed at once, and never at a loss to whoever cancels the reader."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from chat_app.turn.engine import until_stopped
from inference.protocol import Chunk, EngineDied


class Source:
    """Two chunks at once, then silence until it is closed."""

    def __init__(self) -> None:
        self.closed = False

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk("a", 1)
            yield Chunk("b", 1)
            await asyncio.sleep(3600)
        finally:
            self.closed = True


async def read(source: Source, stop: asyncio.Event) -> str:
    text = ""
    async with aclosing(until_stopped(stop, source.stream())) as chunks:
        async for chunk in chunks:
            text += chunk.text
    await asyncio.sleep(0)  # a cancellation that was left over would strike here
    return text


async def test_a_stop_ends_the_wait_for_the_engine() -> None:
    source, stop = Source(), asyncio.Event()
    reading = asyncio.create_task(read(source, stop))
    await asyncio.sleep(0.02)
    stop.set()
    assert await asyncio.wait_for(reading, 1) == "ab"
    assert source.closed
    assert reading.cancelling() == 0


async def test_a_stop_while_a_chunk_is_being_stored_waits_for_it() -> None:
    source, stop, stored = Source(), asyncio.Event(), []
    async with aclosing(until_stopped(stop, source.stream())) as chunks:
        async for chunk in chunks:
            stop.set()
            await asyncio.sleep(0.02)
            stored.append(chunk.text)
    assert stored == ["a"]
    assert source.closed


async def test_a_stop_before_the_first_token() -> None:
    source, stop = Source(), asyncio.Event()
    stop.set()
    assert await read(source, stop) == ""


@pytest.mark.parametrize("stopped", [False, True])
async def test_whoever_cancels_the_reader_is_obeyed(stopped: bool) -> None:
    source, stop = Source(), asyncio.Event()
    reading = asyncio.create_task(read(source, stop))
    await asyncio.sleep(0.02)
    if stopped:
        stop.set()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed


async def test_the_engines_errors_pass_through() -> None:
    async def dying() -> AsyncGenerator[Chunk, None]:
        yield Chunk("a", 1)
        raise EngineDied("died")

    with pytest.raises(EngineDied):
        async for _ in until_stopped(asyncio.Event(), dying()):
            pass
