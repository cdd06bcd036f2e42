"""Frames: all the entries, in order, the first at once, then at a pace."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from chat_app.data.log.entries import Entry, text_of
from chat_app.sessions.viewer import Update
from chat_app.ui.frames import FRAME_S, Frame, frames, pause


def update(*entries: Entry, end: str | None = None) -> Update:
    """Frames do not look at offsets."""
    return Update(0, entries, 0, end)


async def updates(texts: list[str], every: float, end: str | None = "done") -> AsyncGenerator[Update, None]:
    for number, text in enumerate(texts):
        if number:
            await asyncio.sleep(every)
        yield update(Entry("text", text), end=end if number == len(texts) - 1 else None)


async def gathered(source: AsyncGenerator[Update, None]) -> tuple[list[Frame], list[float]]:
    loop = asyncio.get_running_loop()
    begun, times, got = loop.time(), [], []
    async for frame in frames(source, lambda: 0):
        got.append(frame)
        times.append(loop.time() - begun)
    return got, times


@pytest.mark.parametrize("every", [0.0, 0.003, 0.06])
async def test_nothing_is_lost_and_the_end_comes_once(every: float) -> None:
    texts = [f"{number} " for number in range(40 if every < 0.05 else 4)]
    got, _ = await gathered(updates(texts, every))
    assert "".join(text_of(frame.entries) for frame in got) == "".join(texts)
    assert [frame.end for frame in got] == [None] * (len(got) - 1) + ["done"]


async def test_the_first_update_is_shown_at_once_and_the_rest_at_a_pace() -> None:
    got, times = await gathered(updates(["x"] * 60, 0.004))
    assert text_of(got[0].entries) == "x"
    assert times[0] < FRAME_S / 2
    gaps = [later - earlier for earlier, later in pairwise(times[:-1])]
    assert min(gaps) > FRAME_S * 0.8  # The last frame does not wait.


async def test_a_source_that_just_stops_ends_the_frames() -> None:
    got, _ = await gathered(updates(["a", "b"], 0.001, end=None))
    assert "".join(text_of(frame.entries) for frame in got) == "ab"
    assert all(frame.end is None for frame in got)


async def test_leaving_the_frames_closes_the_source() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Update, None]:
        try:
            yield update(Entry("text", "a"))
            await asyncio.sleep(60)
        finally:
            closed.set()

    coming = frames(endless(), lambda: 0)
    assert text_of((await anext(coming)).entries) == "a"
    await coming.aclose()
    assert closed.is_set()


async def test_an_error_of_the_source_reaches_the_reader() -> None:
    async def broken() -> AsyncGenerator[Update, None]:
        yield update(Entry("text", "a"))
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await gathered(broken())


async def test_neighbours_of_one_kind_come_as_one_and_the_order_stays() -> None:
    call = Entry("tool_call", data={"id": "1", "name": "calculator", "arguments": "{}"})
    log = [Entry("reasoning", "a"), Entry("reasoning", "b"), Entry("text", "c"), call, call]

    async def source() -> AsyncGenerator[Update, None]:
        yield update(*log[:1])
        for entry in log[1:]:
            yield update(entry)
        yield update(Entry("text", "d"), Entry("text", "e"), end="done")

    got, _ = await gathered(source())
    entries = [entry for frame in got for entry in frame.entries]
    assert text_of(entries) == "cde"
    assert [entry for entry in entries if entry.kind == "tool_call"] == [call, call]
    assert "".join(entry.text for entry in entries if entry.kind == "reasoning") == "ab"
    assert len(entries) < len(log) + 2


async def test_what_came_before_an_error_is_shown() -> None:
    async def broken() -> AsyncGenerator[Update, None]:
        for text in "abc":
            yield update(Entry("text", text))
        raise ConnectionError("gone")

    seen = ""
    with pytest.raises(ConnectionError):
        async for frame in frames(broken(), lambda: 0):
            seen += text_of(frame.entries)
    assert seen == "abc"


async def test_a_sign_of_life_reaches_the_reader() -> None:
    async def silent() -> AsyncGenerator[Update, None]:
        yield update()
        await asyncio.sleep(60)

    coming = frames(silent(), lambda: 0)
    assert await anext(coming) == Frame((), None)
    await coming.aclose()


def test_long_tails_are_sent_less_often() -> None:
    assert pause(0) == FRAME_S
    assert pause(40_000) == pytest.approx(0.4)
