"""What was forgotten is gone from its store, and nobody who still holds a part of it can bring it back."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio as redis

from chat_app.data.log import valkey_scripts
from chat_app.data.log.base import GenerationLog, Piece, StaleOwner
from chat_app.data.log.shard_reader import shard_of
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from tests.data.logs import watch


async def test_what_was_forgotten_is_gone(log: GenerationLog) -> None:
    for name in ("a", "b", "c"):
        log.begin(name, 1)
        await log.append(name, 1, 0, f"the text of {name}")
        await log.end(name, 1, "done")
    await log.forget(["a", "c", "unknown"])
    await log.forget(["a", "c", "unknown"])
    assert [(await log.read(name)).text for name in ("a", "b", "c", "unknown")] == ["", "the text of b", "", ""]
    await log.forget([])


async def test_a_writer_does_not_bring_it_back(log: GenerationLog) -> None:
    for name in ("appends", "ends", "opens", "begins"):
        await log.open(name, 3)
        await log.append(name, 3, 0, "text")
    await log.forget(["appends", "ends", "opens", "begins"])
    with pytest.raises(StaleOwner):
        await log.append("appends", 3, 4, " more")
    with pytest.raises(StaleOwner):
        await log.end("ends", 3, "done")
    with pytest.raises(StaleOwner):
        await log.open("opens", 4, "text and more")
    log.begin("begins", 5)
    with pytest.raises(StaleOwner):
        await log.append("begins", 5, 0, "text")
    for name in ("appends", "ends", "opens", "begins"):
        assert (await log.read(name)).text == ""


async def test_a_file_forgets_it_too(home: Path) -> None:
    log = SqliteLog(home / "log.db")
    await log.start()
    log.begin("g", 1)
    await log.append("g", 1, 0, "the words that were said")
    await log.forget(["g"])
    await log.close()  # The last connection's end moves the journal into the file.
    assert b"the words that were said" not in (home / "log.db").read_bytes()


@pytest.fixture
def pair() -> tuple[str, str]:
    """Two generations in one shard."""
    return "g0", next(f"g{n}" for n in range(1, 1_000) if shard_of(f"g{n}") == shard_of("g0"))


async def test_who_follows_another_answer_in_the_same_shard_misses_nothing(
    redis_url: str, pair: tuple[str, str]
) -> None:
    here, there = ValkeyLog(redis_url), ValkeyLog(redis_url)
    await here.start()
    await there.start()
    gone, stays = pair
    writing = list(pair)
    for name in writing:
        here.begin(name, 1)
    following = asyncio.create_task(watch(there, stays))
    for n in range(20):  # Posts of both lie in the same entries of the stream.
        await asyncio.gather(*(here.append(name, 1, 2 * n, f"{n:02}") for name in writing))
        if n == 10:
            await here.forget([gone])
            writing.remove(gone)
    await here.end(stays, 1, "done")
    text, end, _ = await asyncio.wait_for(following, 20)
    assert (text, end) == ("".join(f"{n:02}" for n in range(20)), "done")
    await here.close()
    await there.close()


async def test_posts_hold_nothing_of_it_and_none_past_its_time(
    redis_url: str, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ValkeyLog(redis_url)
    await log.start()
    gone, stays = pair
    shard = f"{valkey_scripts.SHARD}{shard_of(gone)}"
    for name in pair:
        log.begin(name, 1)
        await log.append(name, 1, 0, f"text of {name}")
    async with redis.from_url(redis_url) as server:
        await log.forget([gone])
        [(_, fields)] = await server.xrange(shard)
        assert fields == {f"{stays}:0:p".encode(): f"text of {stays}".encode()}
        await log.sweep()
        assert await server.xlen(shard) == 1
        monkeypatch.setattr(valkey_scripts, "KEPT_S", -10)
        await log.sweep()
        assert await server.xlen(shard) == 0
    assert await log.read(stays) == Piece(0, f"text of {stays}")
    await log.close()
