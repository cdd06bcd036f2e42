"""What becomes of the generation log when processes, disks and servers fail."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.asyncio
import redis.exceptions

from chat_app.data.ids import now_ms
from chat_app.data.log import sqlite_statements, valkey_scripts
from chat_app.data.log.base import GenerationLog, LogUnavailable, Piece, StaleOwner, WrongOffset
from chat_app.data.log.shard_reader import shard_of
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from tests.data.killing import kill_while_writing
from tests.data.logs import some_words, watch, write
from tests.data.writing import word
from tests.faults.proxy import FaultProxy
from tests.servers import Valkey


@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
async def test_what_was_acknowledged_survives_kill_9(kind: str, home: Path, request: pytest.FixtureRequest) -> None:
    address = str(home / "log.db") if kind == "sqlite" else request.getfixturevalue("redis_url")
    acknowledged = await kill_while_writing("log", address)
    log: GenerationLog = SqliteLog(home / "log.db") if kind == "sqlite" else ValkeyLog(address)
    await log.start()
    for stream, count in acknowledged.items():
        text = await log.open(f"g{stream}", 2)
        words = [word(stream, n) for n in range(count + 1)]
        assert text in ("".join(words[:count]), "".join(words))  # at most the one under way besides
        await log.append(f"g{stream}", 2, len(text), "and on")
        assert (await log.read(f"g{stream}")).text == text + "and on"
    await log.close()


# SQLite --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def file(home: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(home / "log.db")
    await log.start()
    yield log
    await log.close()


async def pragma(log: SqliteLog, statement: str) -> None:
    await log._writer.run(lambda connection: connection.execute(statement).fetchall())


async def test_full_disk(file: SqliteLog) -> None:
    await file.open("g", 1)
    await file.append("g", 1, 0, "before ")
    viewer = asyncio.create_task(watch(file, "g"))
    await pragma(file, "PRAGMA max_page_count = 20")
    with pytest.raises(LogUnavailable, match="disk is full"):
        await file.append("g", 1, 7, "x" * 300_000)
    assert await file.read("g") == Piece(0, "before ")
    await pragma(file, "PRAGMA max_page_count = 100000")
    await file.append("g", 1, 7, "after")
    await file.end("g", 1, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == ("before after", "done")


async def test_damaged_file(home: Path) -> None:
    (home / "log.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(LogUnavailable, match="not a database"):
        await SqliteLog(home / "log.db").start()


async def test_a_log_that_is_not_open(home: Path) -> None:
    log = SqliteLog(home / "log.db")
    for doing in (log.request_stop("g"), log.open("g", 1)):
        with pytest.raises(LogUnavailable, match="not open"):
            await doing


async def test_old_text_is_swept_and_gone_from_the_file(file: SqliteLog, home: Path) -> None:
    for name, closed in (("closed", True), ("open", False)):
        await file.open(name, 1)
        await file.append(name, 1, 0, f"the text that was {name}")
        if closed:
            await file.end(name, 1, "done")

    async def after(ms: int) -> None:
        await file._write(lambda connection: sqlite_statements.sweep(connection, now_ms() + ms))

    await after(sqlite_statements.CLOSED_MS // 2)
    assert (await file.read("closed")).text
    await after(sqlite_statements.CLOSED_MS + 1_000)
    assert await file.read("closed") == Piece(0, "")
    assert (await file.read("open")).text  # its owner may yet come back for it
    await after(sqlite_statements.ORPHAN_MS + 1_000)
    assert await file.read("open") == Piece(0, "")
    await file.close()  # the last connection's end moves the journal into the file
    assert b"the text that was" not in (home / "log.db").read_bytes()


# Valkey --------------------------------------------------------------------------------------------------------------


class Two:
    """Two processes' logs on one server."""

    def __init__(self, url: str) -> None:
        self.one = ValkeyLog(url)
        self.two = ValkeyLog(url)
        self.server = redis.asyncio.Redis.from_url(url)

    async def write(self, log: GenerationLog, fence: int, words: list[str], before: str = "") -> str:
        """Write as an owner does: whatever went wrong, open again and see what is stored."""
        text = before
        for piece in words:
            stored = text
            while stored != text + piece:
                assert stored == text
                try:
                    await log.append("g", fence, len(text), piece)
                    break
                except (WrongOffset, LogUnavailable):
                    stored = await self.open(log, fence, text)
            text += piece
        return text

    async def open(self, log: GenerationLog, fence: int, text: str) -> str:
        while True:
            with contextlib.suppress(LogUnavailable):
                return await log.open("g", fence, text)
            await asyncio.sleep(0.05)


async def two_on(url: str) -> AsyncIterator[Two]:
    both = Two(url)
    await both.one.start()
    await both.two.start()
    yield both
    await both.one.close()
    await both.two.close()
    await both.server.aclose()


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[Two]:
    async for both in two_on(redis_url):
        yield both


@pytest.fixture
async def own(own_valkey: Valkey) -> AsyncIterator[Two]:
    async for both in two_on(own_valkey.url):
        yield both


async def test_the_owner_changes_in_mid_stream(two: Two) -> None:
    viewers = [asyncio.create_task(watch(log, "g")) for log in (two.one, two.two)]
    await two.one.open("g", 1)
    text = await write(two.one, "g", 1, some_words(40, 1))
    viewers += [asyncio.create_task(watch(log, "g", 7)) for log in (two.one, two.two)]
    await asyncio.sleep(0.05)
    assert await two.two.open("g", 2, text[:5]) == text
    with pytest.raises(StaleOwner):
        await two.one.append("g", 1, len(text), "late")
    text = await write(two.two, "g", 2, some_words(40, 2), text)
    await two.two.end("g", 2, "done")
    for viewer, offset in zip(viewers, (0, 0, 7, 7), strict=True):
        assert (await asyncio.wait_for(viewer, 30))[:2] == (text[offset:], "done")


async def test_a_silent_owners_viewers_follow_the_new_owner(two: Two) -> None:
    """The old owner never writes again, so its process learns it from the control stream alone."""
    await two.one.open("g", 1)
    text = await write(two.one, "g", 1, ["first "])
    viewer = asyncio.create_task(watch(two.one, "g"))
    await asyncio.sleep(0.05)
    await two.two.open("g", 2)
    text = await write(two.two, "g", 2, ["second"], text)
    await two.two.end("g", 2, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


async def test_a_trimmed_shard_is_made_good(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    await two.one.open("g", 1)
    await two.one.append("g", 1, 0, "seen ")
    viewer = asyncio.create_task(watch(two.two, "g"))
    await asyncio.sleep(0.1)
    feed = two.two._reader._feed
    monkeypatch.setattr(two.two._reader, "_feed", lambda fields: None)  # these posts never arrive
    text = await write(two.one, "g", 1, ["missed ", "too "], "seen ")
    await asyncio.sleep(0.05)
    await two.server.xtrim(f"{valkey_scripts.SHARD}{shard_of('g')}", maxlen=0)
    monkeypatch.setattr(two.two._reader, "_feed", feed)
    text = await write(two.one, "g", 1, ["seen again"], text)
    await two.one.end("g", 1, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


async def test_a_missed_end_is_found_by_comparing(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.data.log.shard_reader.BLOCK_S", 0.1)
    await two.one.open("g", 1)
    viewer = asyncio.create_task(watch(two.two, "g"))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(two.two._reader, "_feed", lambda fields: None)
    text = await write(two.one, "g", 1, some_words(5))
    await two.one.end("g", 1, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


async def test_a_stop_that_the_reader_missed_is_found_by_comparing(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.data.log.shard_reader.BLOCK_S", 0.1)
    await two.one.open("g", 1)
    await two.one.open("h", 1)
    monkeypatch.setattr(two.one._reader, "_obey", lambda fields: None)
    await two.two.request_stop("g")
    await asyncio.wait_for(two.one.stop_requested("g").wait(), 30)
    assert not two.one.stop_requested("h").is_set()


async def test_a_lost_answer_does_not_double_the_text(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    await two.one.open("g", 1)
    flush, calls = two.one._flush, 0

    async def answer_lost(*args: bytes) -> object:
        nonlocal calls
        calls += 1
        results = await flush(*args)
        if calls % 2:
            raise redis.exceptions.ConnectionError("after it was carried out")
        return results

    monkeypatch.setattr(two.one, "_flush", answer_lost)
    viewer = asyncio.create_task(watch(two.two, "g"))
    text = await two.write(two.one, 1, ["aa"] * 10)
    monkeypatch.undo()
    with pytest.raises(WrongOffset):
        await two.one.append("g", 1, len(text) - 2, "aa")
    await two.one.end("g", 1, "done")
    assert text == "aa" * 10
    assert await two.two.read("g") == Piece(0, text, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


async def test_an_open_that_comes_late_changes_nothing(redis_url: str) -> None:
    """Its caller has given it up and opened anew: what that one said stays true."""
    async with FaultProxy(urlsplit(redis_url).port or 6379) as proxy:
        log = ValkeyLog(f"redis://127.0.0.1:{proxy.port}{urlsplit(redis_url).path}")
        await log.start()
        await log.open("warm", 1)  # the server knows the script
        held = proxy.hold_next_request(b"the late one")
        late = asyncio.create_task(log.open("g", 1, "what the late one restores"))
        await asyncio.wait_for(held.happened.wait(), 10)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert await log.open("g", 1, "ab") == "ab"
        await log.append("g", 1, 2, "c")
        held.release()
        await asyncio.sleep(0.2)
        await log.append("g", 1, 3, "d")
        assert await log.read("g") == Piece(0, "abcd")
        await log.close()


@pytest.mark.parametrize("lost", ["everything", "text", "hash"])
async def test_a_log_that_lost_its_memory_is_restored(two: Two, lost: str) -> None:
    await two.one.open("g", 1)
    viewers = [asyncio.create_task(watch(log, "g")) for log in (two.one, two.two)]
    text = await two.write(two.one, 1, some_words(20, 1))
    await asyncio.sleep(0.05)
    if lost == "everything":
        await two.server.flushdb()
    else:
        await two.server.delete({"text": valkey_scripts.TEXT, "hash": valkey_scripts.HASH}[lost] + "g")
    assert await two.two.read("g") == Piece(0, "")
    with pytest.raises(WrongOffset) as refusal:
        await two.one.append("g", 1, len(text), "x")
    assert refusal.value.length == 0
    text = await two.write(two.one, 1, some_words(20, 2), text)
    await two.server.flushdb()
    await two.one.end("g", 1, "done")  # restored from what this process knows
    assert await two.two.read("g") == Piece(0, text, "done")
    for viewer in viewers:
        assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


@pytest.mark.parametrize("lost", [valkey_scripts.TEXT, valkey_scripts.HASH])
async def test_an_end_restores_what_was_lost_before_it(two: Two, lost: str) -> None:
    await two.one.open("g", 1)
    text = await two.write(two.one, 1, some_words(20, 1))
    await two.server.delete(lost + "g")
    await two.one.end("g", 1, "done")
    assert await two.two.read("g") == Piece(0, text, "done")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_server_restart(own: Two, own_valkey: Valkey, how: signal.Signals) -> None:
    await own.one.open("g", 1)
    viewers = [asyncio.create_task(watch(log, "g")) for log in (own.one, own.two)]
    writing = asyncio.create_task(own.write(own.one, 1, some_words(5_000, 1)))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(own_valkey.stop, how)
    late = asyncio.create_task(watch(own.two, "g", 3))
    with pytest.raises(LogUnavailable):
        await own.two.read("g")
    with pytest.raises(LogUnavailable):
        await own.two.open("g", 2)
    await asyncio.to_thread(own_valkey.start)
    assert not writing.done()
    text = await asyncio.wait_for(writing, 60)
    await own.one.end("g", 1, "done")
    for viewer in viewers:
        assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")
    assert (await asyncio.wait_for(late, 30))[:2] == (text[3:], "done")
    await own.two.open("h", 1)
    await own.one.request_stop("h")  # the control stream is heard again
    await asyncio.wait_for(own.two.stop_requested("h").wait(), 30)


async def test_a_server_that_hangs(own: Two, own_valkey: Valkey) -> None:
    await own.one.open("g", 1)
    viewer = asyncio.create_task(watch(own.two, "g"))
    writing = asyncio.create_task(own.write(own.one, 1, some_words(1_500, 1)))
    await asyncio.sleep(0.1)
    own_valkey.pause()
    await asyncio.sleep(1)
    own_valkey.resume()
    assert not writing.done()
    text = await asyncio.wait_for(writing, 60)
    await own.one.end("g", 1, "done")
    assert (await asyncio.wait_for(viewer, 30))[:2] == (text, "done")


async def test_no_server() -> None:
    log = ValkeyLog("redis://127.0.0.1:1")
    with pytest.raises(LogUnavailable):
        await log.start()
    await log.close()


async def test_everything_expires(two: Two) -> None:
    viewer = asyncio.create_task(watch(two.two, "g"))
    await two.one.request_stop("before")
    await two.one.open("g", 1, "restored ")
    await two.one.append("g", 1, 9, "text")
    await two.one.end("g", 1, "done")
    await viewer
    for key in await two.server.keys():
        if key != valkey_scripts.CONTROL.encode():  # one short stream for ever
            assert 0 < await two.server.ttl(key) <= valkey_scripts.KEPT_S, key


async def test_many_viewers_are_one_reader(two: Two) -> None:
    for n in range(30):
        await two.one.open(f"g{n}", 1)
    viewers = [asyncio.create_task(watch(two.two, f"g{n % 30}")) for n in range(300)]
    texts = await asyncio.gather(*(write(two.one, f"g{n}", 1, some_words(10, n)) for n in range(30)))
    assert len(await two.server.client_list()) < 30  # two small pools, not a connection for each viewer
    await asyncio.gather(*(two.one.end(f"g{n}", 1, "done") for n in range(30)))
    for n, viewer in enumerate(viewers):
        assert (await asyncio.wait_for(viewer, 30))[:2] == (texts[n % 30], "done")
