"""What the reader of the other processes' posts asks of the server: from where on, how often, and about which logs."""

import asyncio

import pytest
import redis.asyncio

from chat_app.data.log.base import Piece
from chat_app.data.log.mirror import Mirrors
from chat_app.data.log.shard_reader import ShardReader, shard_of
from chat_app.data.log.valkey import ValkeyLog
from chat_app.data.log.valkey_scripts import CONTROL, SHARD

SHARD_OF_G = f"{SHARD}{shard_of('g')}"


async def _nothing(_: str) -> Piece:
    return Piece(0, "")


async def _never(_: str) -> Piece:
    await asyncio.Event().wait()
    raise AssertionError


async def test_the_store_is_asked_about_all_that_was_read_and_has_been_quiet(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.data.log.shard_reader.MOST_POSTS", 2)
    mirrors, settled = Mirrors(_never), list[str]()
    reader = ShardReader(redis_url, mirrors, lambda _: None, lambda *_: None)
    monkeypatch.setattr(reader, "_settle", lambda generation, *_: settled.append(generation))
    names = [f"g{n}" for n in range(5)]
    for name in names:
        mirrors.own(name, 1, "text", None)
    unread = asyncio.ensure_future(anext(mirrors.tail("unread", 0)))
    await asyncio.sleep(0)

    async def asked(*, quiet_only: bool) -> list[str]:
        settled.clear()
        await reader._compare(quiet_only=quiet_only)
        return list(settled)

    assert await asked(quiet_only=True) == []
    assert await asked(quiet_only=True) == names
    moved = mirrors.get("g1")
    assert moved is not None and moved.feed(4, "more")
    assert await asked(quiet_only=False) == names
    assert await asked(quiet_only=True) == ["g0", "g2", "g3", "g4"]
    unread.cancel()
    await reader.close()


async def test_what_the_store_knows_is_read_as_it_was_written(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, mirrors, settled = ValkeyLog(redis_url), Mirrors(_nothing), list[object]()
    await log.start()
    await log.open("ended", 3)
    await log.append("ended", 3, 0, "añ🎉")
    await log.request_stop("ended")
    await log.end("ended", 3, "done")
    await log.open("open", 4)
    reader = ShardReader(redis_url, mirrors, lambda _: None, lambda *_: None)
    monkeypatch.setattr(reader, "_settle", lambda generation, _, *known: settled.append((generation, *known)))
    for name in ("ended", "open", "unknown"):
        mirrors.own(name, 1, "", None)
    await reader._compare(quiet_only=False)
    assert settled == [("ended", 3, 3, True, True), ("open", 4, 0, False, False), ("unknown", 0, 0, False, False)]
    await reader.close()
    await log.close()


async def test_a_shard_is_listened_to_from_where_its_first_tail_began(redis_url: str) -> None:
    reader = ShardReader(redis_url, Mirrors(_nothing), lambda _: None, lambda *_: None)
    await reader.watch("g", "5-0")
    await reader.watch("g", "7-0")
    assert reader._positions == {SHARD_OF_G: "5-0"}
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        assert (await server.xinfo_stream(reader._wake))["entries-added"] == 1  # it is woken once
    await reader.close()


async def test_a_reader_begins_behind_what_was_said_before_and_at_the_start_of_what_was_lost(redis_url: str) -> None:
    reader = ShardReader(redis_url, Mirrors(_nothing), lambda _: None, lambda *_: None)
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        last = (await server.xadd(CONTROL, {"stop": "before"})).decode()
        shard = f"{SHARD}{shard_of('g')}"
        await server.xadd(shard, {"g:0:p": "x"}, id="9-5")
        reader._positions = {shard: "9-4", f"{SHARD}lost": "1-0"}
        await reader._seek()
        wake = {reader._wake: "0-0"}
        assert reader._positions == {CONTROL: last, shard: "9-4", f"{SHARD}lost": "0-0", **wake}
        reader._positions[shard] = "10-1"  # no text: 10 is behind 9
        await reader._seek()
        assert reader._positions[shard] == "0-0"
        assert reader._positions[CONTROL] == last
    await reader.close()


async def test_it_waits_for_news_of_all_streams_at_once_five_seconds_at_a_time(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as server, server.monitor() as commands, asyncio.timeout(10):
        log = ValkeyLog(redis_url)
        await log.start()
        while not (command := (await commands.next_command())["command"]).startswith("XREAD "):
            pass
        assert "BLOCK 5000" in command
        assert f"STREAMS {CONTROL} {log._reader._wake} " in command
        await log.close()
