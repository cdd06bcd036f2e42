"""Frames: all the text, in order, the first at once, then at a pace."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from chat_app.data.log.base import Piece
from chat_app.ui.frames import FRAME_S, Frame, frames, pause


async def pieces(texts: list[str], every: float, end: str | None = "done") -> AsyncGenerator[Piece, None]:
    offset = 0
    for number, text in enumerate(texts):
        if number:
            await asyncio.sleep(every)
        yield Piece(offset, text, end if number == len(texts) - 1 else None)
        offset += len(text)


async def gathered(source: AsyncGenerator[Piece, None]) -> tuple[list[Frame], list[float]]:
    loop = asyncio.get_running_loop()
    begun, times, got = loop.time(), [], []
    async for frame in frames(source, lambda: 0):
        got.append(frame)
        times.append(loop.time() - begun)
    return got, times


@pytest.mark.parametrize("every", [0.0, 0.003, 0.06])
async def test_nothing_is_lost_and_the_end_comes_once(every: float) -> None:
    texts = [f"{number} " for number in range(40 if every < 0.05 else 4)]
    got, _ = await gathered(pieces(texts, every))
    assert "".join(frame.text for frame in got) == "".join(texts)
    assert [frame.end for frame in got] == [None] * (len(got) - 1) + ["done"]


async def test_the_first_piece_is_shown_at_once_and_the_rest_at_a_pace() -> None:
    got, times = await gathered(pieces(["x"] * 60, 0.004))
    assert got[0].text == "x"
    assert times[0] < FRAME_S / 2
    gaps = [later - earlier for earlier, later in pairwise(times[:-1])]
    assert min(gaps) > FRAME_S * 0.8  # The last frame does not wait.


async def test_a_source_that_just_stops_ends_the_frames() -> None:
    got, _ = await gathered(pieces(["a", "b"], 0.001, end=None))
    assert "".join(frame.text for frame in got) == "ab"
    assert all(frame.end is None for frame in got)


async def test_leaving_the_frames_closes_the_source() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Piece, None]:
        try:
            yield Piece(0, "a")
            await asyncio.sleep(60)
        finally:
            closed.set()

    coming = frames(endless(), lambda: 0)
    assert (await anext(coming)).text == "a"
    await coming.aclose()
    assert closed.is_set()


async def test_an_error_of_the_source_reaches_the_reader() -> None:
    async def broken() -> AsyncGenerator[Piece, None]:
        yield Piece(0, "a")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await gathered(broken())


def test_long_tails_are_sent_less_often() -> None:
    assert pause(0) == FRAME_S
    assert pause(40_000) == pytest.approx(0.4)
