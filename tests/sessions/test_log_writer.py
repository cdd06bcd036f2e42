"""The log writer on both stores: what it writes, what it saves, and that nothing is lost or doubled under faults."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis.asyncio

from chat_app.data.db.base import Database, DatabaseUnavailable, Unmet
from chat_app.data.log.base import GenerationLog, LogUnavailable, Piece, StaleOwner, WrongOffset
from chat_app.data.log.entries import Entry, encode
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from chat_app.sessions import log_writer
from chat_app.sessions.generations import GenerationRow, Generations
from chat_app.sessions.log_writer import LogWriter
from tests.sessions.log_writers import Saved, text, writer_of


@pytest.fixture(params=["sqlite", "valkey"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GenerationLog]:
    valkey = request.param == "valkey"
    log: GenerationLog = ValkeyLog(request.getfixturevalue("redis_url")) if valkey else SqliteLog(tmp_path / "log.db")
    await log.start()
    yield log
    await log.close()


# Writing -------------------------------------------------------------------------------------------------------------


async def test_what_is_written_is_stored_in_order_and_remembered(log: GenerationLog) -> None:
    writer = writer_of(log)
    await writer.open()
    assert (writer.log, writer.text, writer.entries, writer.first_token_at) == ("", "", [], None)
    entries = [
        Entry("status", data={"phase": "searching"}),
        Entry("reasoning", "hm "),
        Entry("text", "two "),
        Entry("text", "words"),
        Entry("sealed", data={"seq": 1, "finish": "stop", "usage": {}}),
    ]
    await writer.write(entries[0])
    assert writer.first_token_at is None  # nothing that an engine has said
    await writer.write(*entries[1:3])
    first = writer.first_token_at
    assert first is not None
    await writer.write()
    await writer.write(Entry("text", ""))
    await writer.write(*entries[3:])
    assert writer.entries == entries
    assert writer.log == encode(entries)
    assert writer.text == "two words"
    assert writer.first_token_at == first
    await writer.end("done")
    assert await log.read("g") == Piece(0, encode(entries), "done")


async def test_entries_of_one_write_are_one_append(log: GenerationLog, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(log)
    await writer.open()
    appends: list[str] = []
    append = log.append

    async def counted(generation: str, fence: int, offset: int, text: str) -> None:
        appends.append(text)
        await append(generation, fence, offset, text)

    monkeypatch.setattr(log, "append", counted)
    await writer.write(Entry("text", "last"), Entry("sealed", data={"seq": 1}))
    assert appends == ['last\x1ez{"seq":1}\x1f']


async def test_a_new_generation_is_opened_without_asking_the_store(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> str:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(log, "open", never)
    writer = writer_of(log)
    await writer.open()
    await writer.write(*text("a"))
    assert (await log.read("g")).text == "a"


async def test_a_later_owner_goes_on_behind_what_is_there(log: GenerationLog) -> None:
    saved = Saved()
    one = writer_of(log, saved)
    await one.open()
    await one.write(Entry("reasoning", "hm"), *text("first "))
    two = writer_of(log, saved, fence=2)
    await two.open()
    assert two.entries == one.entries
    assert (two.log, two.text) == (one.log, "first ")
    with pytest.raises(StaleOwner):
        await one.write(*text("late"))
    with pytest.raises(StaleOwner):
        await one.end("done")
    await two.write(*text("second"))
    assert two.log == (await log.read("g")).text
    assert two.text == "first second"


async def test_a_write_that_was_cancelled_is_settled_by_the_next(log: GenerationLog) -> None:
    writer = writer_of(log)
    await writer.open()
    await writer.write(*text("a"))
    for turns in range(12):
        task = asyncio.create_task(writer.write(*text(f"[{turns}]")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.write(*text("."))
    assert (await log.read("g")).text == writer.log == writer.text
    assert writer.text.count(".") == 12


async def test_foreign_text_in_the_log_ends_the_writer(log: GenerationLog) -> None:
    writer = writer_of(log)
    await writer.open()
    await writer.write(*text("mine "))
    await log.append("g", 1, 5, "somebody's")
    with pytest.raises(StaleOwner):
        await writer.write(*text("mine"))
    assert (await log.read("g")).text == "mine somebody's"


# What the row and the checkpoints get ----------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The writer's clock, in seconds; it moves when a test moves it."""
    now = [100.0]
    with patch.object(log_writer, "time") as time:
        time.monotonic = lambda: now[0]
        yield now  # type: ignore[misc]


async def test_an_answer_within_a_second_costs_the_database_nothing(log: GenerationLog, clock: list[float]) -> None:
    saved = Saved()
    writer = writer_of(log, saved)
    await writer.open()
    for _ in range(9):
        await writer.write(*text("x"))
        clock[0] += 0.1
    await writer.end("done")
    assert saved.writes == 0


async def test_the_row_is_noted_once_and_checkpoints_hold_what_is_new(log: GenerationLog, clock: list[float]) -> None:
    saved = Saved()
    writer = writer_of(log, saved)
    await writer.open()
    for _ in range(35):
        await writer.write(*text("x"))
        clock[0] += 0.1
    assert saved.streaming_since == [writer.first_token_at]
    assert writer.first_token_at is not None
    if log.durable:
        assert saved.writes == 1
        assert saved.checkpoints == {}
    else:
        assert saved.writes == len(saved.checkpoints) == 3
        assert sorted(saved.checkpoints) == [0, *_ends(saved.checkpoints)[:-1]]  # nothing is saved twice
        assert 31 <= len(await saved.checkpointed("g")) <= 34


def _ends(pieces: dict[int, str]) -> list[int]:
    return [start + len(piece) for start, piece in sorted(pieces.items())]


async def test_a_checkpoint_that_the_database_did_not_take_is_made_up_for(
    log: GenerationLog, clock: list[float]
) -> None:
    saved = Saved()
    writer = writer_of(log, saved)
    await writer.open()
    await writer.write(*text("a"))
    clock[0] += 1.1
    saved.refusal = DatabaseUnavailable("gone")
    await writer.write(*text("b"))
    await writer.write(*text("c"))
    assert saved.writes == 1  # not on every write: each may take as long as the database's patience
    clock[0] += 1.1
    await writer.write(*text("d"))
    assert saved.writes == 2
    assert saved.streaming_since == [writer.first_token_at]
    assert saved.checkpoints == ({} if log.durable else {0: "abcd"})


async def test_an_owner_that_was_replaced_stops_at_its_checkpoint(log: GenerationLog, clock: list[float]) -> None:
    saved = Saved(refusal=Unmet("owner"))
    writer = writer_of(log, saved)
    await writer.open()
    await writer.write(*text("a"))
    clock[0] += 1.1
    with pytest.raises(StaleOwner):
        await writer.write(*text("b"))


async def test_a_log_that_was_lost_with_its_owner_is_restored_from_checkpoints(
    redis_url: str, clock: list[float]
) -> None:
    log, saved = ValkeyLog(redis_url), Saved()
    await log.start()
    one = writer_of(log, saved)
    await one.open()
    for word in ("a", "b", "c", "d"):
        await one.write(*text(word))
        clock[0] += 0.6
    assert saved.checkpoints == {0: "abc"}
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        await server.flushdb()
    two = writer_of(log, saved, fence=2)
    await two.open()
    assert two.text == "abc"
    await two.write(*text("D"))
    clock[0] += 1.1
    await two.write(*text("E"))
    assert saved.checkpoints == {0: "abc", 3: "DE"}
    assert (await log.read("g")).text == "abcDE"
    await log.close()


async def test_a_later_owner_saves_what_the_checkpoints_lack(redis_url: str, clock: list[float]) -> None:
    log, saved = ValkeyLog(redis_url), Saved(checkpoints={0: "abc"})
    await log.start()
    await log.open("g", 1, "abcd")
    two = writer_of(log, saved, fence=2)
    await two.open()
    assert two.text == "abcd"
    await two.write(*text("e"))
    clock[0] += 1.1
    await two.write(*text("f"))
    assert saved.checkpoints == {0: "abc", 3: "def"}
    await log.close()


async def test_a_durable_log_needs_no_checkpoint(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.start()
    two = writer_of(log, Saved(checkpoints={0: "should not be asked for"}), fence=2)
    await two.open()
    assert two.text == ""
    await log.close()


async def test_checkpoints_and_takeover_on_the_real_rows(db: Database, redis_url: str, clock: list[float]) -> None:
    """Valkey forgets everything in mid-answer and the owner dies: the next one goes on from the rows."""
    generations = Generations(db)
    row = GenerationRow("g", "tenant", "user", "plan", "2026-11", 1, owner="one")
    await db.batch(generations.create(row))
    log = ValkeyLog(redis_url)
    await log.start()
    one = LogWriter(log, db, generations, row)
    await one.open()
    for word in ("a", "b", "c", "d", "e"):
        await one.write(*text(word))
        clock[0] += 0.6
    assert await generations.status("g") == "streaming"
    assert await generations.checkpointed("g") == "abcde"
    await one.write(*text("f"))
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        await server.flushdb()
    [taken] = await generations.claim("one", "two", 10, row.job_version)
    two = LogWriter(log, db, generations, taken)
    await two.open()
    assert (two.text, two.first_token_at) == ("abcde", one.first_token_at)
    await two.write(*text("F"))
    clock[0] += 1.1
    await two.write(*text("G"))
    assert await generations.checkpointed("g") == "abcdeFG"
    with pytest.raises(StaleOwner):
        await one.write(*text("late"))
    forgetful = ValkeyLog(redis_url)
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        await server.flushdb()
    await forgetful.start()
    stale = LogWriter(forgetful, db, generations, row)
    await stale.open()
    await stale.write(*text("x"))
    clock[0] += 1.1
    with pytest.raises(StaleOwner):  # the log took it, the row does not
        await stale.write(*text("y"))
    await forgetful.close()
    await log.close()


async def test_patience_ends(log: GenerationLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "PATIENCE_S", 0.3)
    writer = writer_of(log)
    await writer.open()
    await writer.write(*text("a"))
    append, tries = log.append, 0

    async def away(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise LogUnavailable("away")

    monkeypatch.setattr(log, "append", away)
    with pytest.raises(LogUnavailable):
        await writer.write(*text("b"))
    assert 3 <= tries <= 12  # it backs off

    async def behind(*_: object) -> None:
        raise WrongOffset(0)

    monkeypatch.setattr(log, "append", behind)
    with pytest.raises(LogUnavailable, match="keeps losing"):
        await writer.write(*text("b"))
    monkeypatch.setattr(log, "append", append)
    await writer.write(*text("c"))
    assert (await log.read("g")).text == writer.log == "ac"


async def test_opening_waits_for_the_log(log: GenerationLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await log.open("g", 1, "before ")
    opened, tries = log.open, 0

    async def twice_away(*about: Any) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LogUnavailable("away")
        return await opened(*about)

    monkeypatch.setattr(log, "open", twice_away)
    writer = writer_of(log, fence=2)
    await writer.open()
    assert writer.text == "before "
