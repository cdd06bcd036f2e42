"""A log on SQLite and on Valkey that is begun without a round trip, and what others may do to it meanwhile."""

import asyncio

import pytest

from chat_app.data.log.base import GenerationLog, Piece, StaleOwner, WrongOffset
from tests.data.conftest import NewLog
from tests.data.logs import watch


async def test_a_log_that_was_begun_is_made_by_its_first_append(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    viewers = [asyncio.create_task(watch(each, "g")) for each in (log, other)]
    await asyncio.sleep(0.05)
    log.begin("g", 1)
    assert await other.read("g") == Piece(0, "")
    await log.append("g", 1, 0, "añ")
    await log.append("g", 1, 2, "🎉")
    assert await other.read("g") == Piece(0, "añ🎉")
    await log.end("g", 1, "done")
    for viewer in viewers:
        assert (await asyncio.wait_for(viewer, 30))[:2] == ("añ🎉", "done")


async def test_appends_behind_a_beginning_may_be_sent_without_waiting(log: GenerationLog) -> None:
    log.begin("g", 1)
    await asyncio.gather(*(log.append("g", 1, n, str(n)) for n in range(10)))
    assert await log.read("g") == Piece(0, "0123456789")


async def test_a_beginning_may_end_without_text(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    log.begin("g", 1)
    await log.end("g", 1, "failed")
    assert await other.read("g") == Piece(0, "", "failed")
    with pytest.raises(StaleOwner):
        await log.append("g", 1, 0, "x")


async def test_a_beginning_does_not_take_what_others_have(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await other.open("higher", 2)
    log.begin("higher", 1)
    with pytest.raises(StaleOwner):
        await log.append("higher", 1, 0, "x")
    await other.open("written", 1, "text")
    log.begin("written", 2)
    with pytest.raises(WrongOffset) as refusal:
        await log.append("written", 2, 0, "x")
    assert refusal.value.length == 4
    log.begin("new", 1)
    with pytest.raises(WrongOffset):
        await log.append("new", 1, 1, "x")  # only the first character makes a log
    assert (await other.read("new")).text == ""
    await other.open("ended", 1)
    await other.end("ended", 1, "done")
    log.begin("ended", 1)
    with pytest.raises(StaleOwner):
        await log.append("ended", 1, 0, "x")


async def test_a_takeover_of_what_was_only_begun_reaches_its_process(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    log.begin("g", 1)
    viewer = asyncio.create_task(watch(log, "g"))
    await asyncio.sleep(0.05)
    assert await other.open("g", 2) == ""
    await other.append("g", 2, 0, "second")
    await other.end("g", 2, "done")
    assert (await asyncio.wait_for(viewer, 3))[:2] == ("second", "done")
    with pytest.raises(StaleOwner):
        await log.append("g", 1, 0, "first")


async def test_a_stop_before_the_beginning_is_seen_at_once(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await other.request_stop("g")
    await asyncio.sleep(0.1)
    log.begin("g", 1)
    assert log.stop_requested("g").is_set()
    log.begin("h", 1)
    assert not log.stop_requested("h").is_set()
    await other.request_stop("h")
    await asyncio.wait_for(log.stop_requested("h").wait(), 30)


async def test_a_stop_that_was_not_heard_is_seen_with_the_first_append(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await other.request_stop("g")
    await asyncio.sleep(0.05)
    log._stops._early.clear()  # type: ignore[attr-defined]
    log.begin("g", 1)
    assert not log.stop_requested("g").is_set()
    await log.append("g", 1, 0, "x")
    assert log.stop_requested("g").is_set()


async def test_reopening_under_the_same_fence_changes_nothing(log: GenerationLog) -> None:
    assert await log.open("g", 3, "abc") == "abc"
    assert await log.open("g", 3, "abc") == "abc"
    await log.append("g", 3, 3, "d")
    assert await log.open("g", 3) == "abcd"
    await log.append("g", 3, 4, "e")
    assert (await log.read("g")).text == "abcde"


async def test_nothing_is_restored_into_a_log_that_has_ended(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await log.open("g", 1, "all")
    await log.end("g", 1, "done")
    assert await other.open("g", 2, "all and more") == "all"
    assert await log.read("g") == Piece(0, "all", "done")


async def test_an_end_by_who_never_opened_it_has_the_whole_text(new_log: NewLog) -> None:
    """A turn may end the answer of an owner that is gone without having written to it."""
    log, other = await new_log(), await new_log()
    viewer = asyncio.create_task(watch(other, "g"))
    await log.open("g", 1, "some text")
    await other.end("g", 2, "failed")
    assert (await asyncio.wait_for(viewer, 30))[:2] == ("some text", "failed")
    assert await log.read("g") == Piece(0, "some text", "failed")
