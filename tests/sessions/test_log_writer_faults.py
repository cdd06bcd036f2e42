"""A log writer and its server with faults between them: nothing is lost or doubled, and viewers see what is stored."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from chat_app.data.log.base import LogUnavailable, Piece
from chat_app.data.log.valkey import ValkeyLog
from tests.faults.proxy import FaultProxy
from tests.servers import Valkey, shared_valkey
from tests.sessions.log_writers import WHOLE, WORDS, all_see, seen_by, text, write_all, writer_of


class Fleet:
    """The owner's process behind a proxy, and another process beside it."""

    def __init__(self, server: str, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.one = ValkeyLog(f"redis://127.0.0.1:{proxy.port}/0")
        self.two = ValkeyLog(server)
        self.writer = writer_of(self.one)


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with FaultProxy(int(shared_valkey().rpartition(":")[2].partition("/")[0])) as proxy:
        fleet = Fleet(redis_url, proxy)
        await fleet.one.start()
        await fleet.two.start()
        yield fleet
        proxy.mode = "pass"
        await fleet.one.close()
        await fleet.two.close()


async def agrees(fleet: Fleet) -> None:
    """Mirror, store and writer hold the same."""
    mirror = fleet.one._mirrors.get("g")
    assert mirror is not None
    assert mirror.text() == (await fleet.two.read("g")).text == fleet.writer.log


@pytest.mark.parametrize("silent", [False, True])
async def test_a_lost_acknowledgement_splices_nothing(
    fleet: Fleet, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer, WORDS[:20])
    lost = fleet.proxy.drop_next_answer(b'"g"', silent=silent)
    await write_all(fleet.writer, WORDS[20:40])
    assert lost.happened.is_set()
    await agrees(fleet)
    await write_all(fleet.writer, WORDS[40:])
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)
    assert await fleet.two.read("g") == Piece(0, WHOLE, "done")


async def test_tails_see_text_whose_acknowledgement_was_lost_at_once(fleet: Fleet) -> None:
    await fleet.writer.open()
    await fleet.writer.write(*text("a"))
    seen: list[str] = []

    async def look() -> None:
        async for piece in fleet.one.tail("g"):
            seen.append(piece.text)

    viewer = asyncio.create_task(look())
    await asyncio.sleep(0.05)
    fleet.proxy.drop_next_answer(b'"g"')
    await fleet.writer.write(*text("b"))
    await asyncio.sleep(0.05)
    assert "".join(seen) == "ab"
    viewer.cancel()


async def test_the_first_append_and_the_answer_to_opening_get_lost(fleet: Fleet) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    fleet.proxy.drop_next_answer(b'"g"')
    await write_all(fleet.writer, WORDS[:5])
    fleet.proxy.drop_next_answer(b'"g"')
    opened = fleet.proxy.drop_next_answer(b"\r\n$1\r\ng\r\n")  # the opening that follows it
    await write_all(fleet.writer, WORDS[5:])
    assert opened.happened.is_set()
    await agrees(fleet)
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)


async def test_an_end_whose_acknowledgement_was_lost(fleet: Fleet) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer)
    fleet.proxy.drop_next_answer(b'"done"')
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)
    assert fleet.one._mirrors.items() == []


async def test_an_end_whose_acknowledgement_was_lost_without_a_writer_to_repeat_it(fleet: Fleet) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer)
    fleet.proxy.drop_next_answer(b'"done"')
    with pytest.raises(LogUnavailable):
        await fleet.one.end("g", 1, "done")
    await all_see(viewers, WHOLE)
    assert fleet.one._mirrors.items() == []


async def test_an_end_after_an_append_whose_acknowledgement_was_lost(fleet: Fleet) -> None:
    """The turn may end an answer whose last write it gave up."""
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer)
    fleet.proxy.drop_next_answer(b'"g"')
    with pytest.raises(LogUnavailable):
        await fleet.one.append("g", 1, len(WHOLE), "more")
    await fleet.one.end("g", 1, "done")
    await all_see(viewers, WHOLE + "more")


async def test_going_on_without_opening_again_leaves_no_gap(fleet: Fleet) -> None:
    """What a writer does that reads how far the log is, instead of opening it."""
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.one.open("g", 1)
    await fleet.one.append("g", 1, 0, "one ")
    fleet.proxy.drop_next_answer(b'"g"')
    with pytest.raises(LogUnavailable):
        await fleet.one.append("g", 1, 4, "two ")
    await fleet.one.append("g", 1, 8, "three ")
    await fleet.one.append("g", 1, 14, "four")
    await fleet.one.end("g", 1, "done")
    await all_see(viewers, "one two three four")


@pytest.mark.parametrize("fault", ["pause", "reset", "half-open"])
async def test_a_server_away_for_longer_than_a_reply_may_take(
    fleet: Fleet, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer, WORDS[:20])
    fleet.proxy.mode = fault  # type: ignore[assignment]
    asyncio.get_running_loop().call_later(6.5, setattr, fleet.proxy, "mode", "pass")
    await write_all(fleet.writer, WORDS[20:])
    await agrees(fleet)
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)


async def test_a_stopped_server(own_valkey: Valkey) -> None:
    log = ValkeyLog(own_valkey.url)
    await log.start()
    writer = writer_of(log)
    viewers = await seen_by(log)
    await writer.open()
    await write_all(writer, WORDS[:20])
    own_valkey.pause()
    asyncio.get_running_loop().call_later(6.5, own_valkey.resume)
    await write_all(writer, WORDS[20:])
    assert (await log.read("g")).text == writer.log == WHOLE
    await writer.end("done")
    await all_see(viewers, WHOLE)
    await log.close()


async def test_a_late_duplicate_changes_nothing(fleet: Fleet) -> None:
    """A command that timed out may reach the server after the writer has opened again, or written on."""
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer, WORDS[:20])
    held = fleet.proxy.hold_next_request(b'"g"')
    task = asyncio.create_task(fleet.writer.write(*text("never ")))
    await held.happened.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await fleet.one.open("g", 1, fleet.writer.log)  # on another connection
    held.release()
    await asyncio.sleep(0.1)
    assert (await fleet.two.read("g")).text == "".join(WORDS[:20])
    await fleet.writer.write(*text(WORDS[20]))
    await agrees(fleet)
    await write_all(fleet.writer, WORDS[21:])
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)


async def test_a_late_first_append_does_not_make_the_log_again(fleet: Fleet) -> None:
    await fleet.writer.open()
    held = fleet.proxy.hold_next_request(b'"g"')
    task = asyncio.create_task(fleet.writer.write(*text("never ")))
    await held.happened.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await fleet.one.open("g", 1) == ""
    held.release()
    await asyncio.sleep(0.1)
    assert (await fleet.two.read("g")).text == ""
    await write_all(fleet.writer)
    await agrees(fleet)


async def test_a_late_opening_does_not_undo_a_later_one(fleet: Fleet) -> None:
    await fleet.one.open("g", 2, "text")
    held = fleet.proxy.hold_next_request(b"a longer text")
    late = asyncio.create_task(fleet.one.open("g", 2, "text and a longer text"))
    await held.happened.wait()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert await fleet.one.open("g", 2, "text") == "text"
    held.release()
    await asyncio.sleep(0.1)
    await fleet.one.append("g", 2, 4, " goes on")
    assert (await fleet.two.read("g")).text == "text goes on"


async def test_a_server_that_forgot_everything_is_restored_in_mid_answer(fleet: Fleet, redis_url: str) -> None:
    viewers = await seen_by(fleet.one, fleet.two)
    await fleet.writer.open()
    await write_all(fleet.writer, WORDS[:20])
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        await server.flushdb()
    await write_all(fleet.writer, WORDS[20:])
    await agrees(fleet)
    await fleet.writer.end("done")
    await all_see(viewers, WHOLE)
