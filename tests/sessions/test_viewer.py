"""Following an answer: from any offset, past what cannot be read, and when log and database do not agree."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import redis.asyncio

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.log import mirror, valkey_scripts
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.entries import Entry, encode, text_of
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from chat_app.sessions import viewer as viewer_module
from chat_app.sessions.viewer import BadOffset, Gone, Update, Viewer, _Reader

SEALED = Entry("sealed", data={"seq": 1, "finish": "stop"})
ENTRIES = [
    Entry("reasoning", "hm"),
    Entry("text", "Let me see. "),
    Entry("tool_call", data={"id": "c", "name": "calculator", "arguments": "{}"}),
    Entry("tool_result", data={"id": "c", "content": "4"}),
    Entry("text", "Four."),
    SEALED,
]
LOG = encode(ENTRIES)
THOUGHT = encode([Entry("reasoning", "hm")])
FOREIGN = '\x1eq{"of a later release": true}\x1f'


@dataclass
class Kept:
    log: str = ""
    length: int = 0


@dataclass
class Rows:
    """What the database says of the one generation."""

    now: str | None = "streaming"
    asked: int = 0
    what: Kept = field(default_factory=Kept)
    away: int = 0
    """So many questions more find it away."""

    async def status(self, _id: str) -> str | None:
        self._ask()
        return self.now

    async def kept(self, _id: str) -> Kept:
        self._ask()
        return self.what

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("the database cannot be reached")


@pytest.fixture(params=["sqlite", "valkey"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GenerationLog]:
    valkey = request.param == "valkey"
    log: GenerationLog = ValkeyLog(request.getfixturevalue("redis_url")) if valkey else SqliteLog(tmp_path / "log.db")
    await log.start()
    yield log
    await log.close()


def viewer_of(log: GenerationLog, rows: Rows) -> Viewer:
    return Viewer(log, rows)  # type: ignore[arg-type]


async def follow(viewer: Viewer, offset: int = 0) -> list[Update]:
    async with asyncio.timeout(30):
        return [update async for update in viewer.follow("g", offset)]


def entries_of(updates: list[Update]) -> list[Entry]:
    return [entry for update in updates for entry in update.entries]


async def test_an_answer_that_is_being_written(log: GenerationLog) -> None:
    following = asyncio.create_task(follow(viewer_of(log, Rows())))
    await log.open("g", 1)
    offset = 0
    for entry in ENTRIES:
        await log.append("g", 1, offset, encode([entry]))
        offset += len(encode([entry]))
        await asyncio.sleep(0.01)
    await log.end("g", 1, "done")
    updates = await following
    assert entries_of(updates) == ENTRIES
    assert [update.end for update in updates] == [None] * (len(updates) - 1) + ["done"]
    assert text_of(entries_of(updates)) == "Let me see. Four."
    assert updates[0].offset == 0
    assert all(one.next == two.offset for one, two in pairwise(updates))
    assert updates[-1].next == len(LOG)


@pytest.mark.parametrize("ended", [False, True])
async def test_from_every_offset_that_an_update_names(log: GenerationLog, ended: bool) -> None:
    await log.open("g", 1, LOG)
    await log.end("g", 1, "done")
    viewer = viewer_of(log, Rows("done" if ended else "streaming", what=Kept(length=len(LOG))))
    offset = 0
    for n, entry in enumerate(ENTRIES):
        [update] = await follow(viewer, offset)
        assert update == Update(offset, tuple(ENTRIES[n:]), len(LOG), "done")
        offset += len(encode([entry]))
    assert await follow(viewer, len(LOG)) == [Update(len(LOG), (), len(LOG), "done")]


async def test_from_the_middle_of_text(log: GenerationLog) -> None:
    await log.open("g", 1, "one two\x1erhm\x1fthree")
    await log.end("g", 1, "done")
    viewer = viewer_of(log, Rows())
    assert entries_of(await follow(viewer, 4)) == [
        Entry("text", "two"),
        Entry("reasoning", "hm"),
        Entry("text", "three"),
    ]
    assert entries_of(await follow(viewer, 7)) == [Entry("reasoning", "hm"), Entry("text", "three")]
    assert entries_of(await follow(viewer, 14)) == [Entry("text", "ree")]


@pytest.mark.parametrize("ended", [False, True])
async def test_from_where_no_entry_begins(log: GenerationLog, ended: bool) -> None:
    await log.open("g", 1, LOG)
    await log.end("g", 1, "done")
    viewer = viewer_of(log, Rows("done" if ended else "streaming", what=Kept(length=len(LOG))))
    places = [0]
    for entry in ENTRIES:
        size = len(encode([entry]))
        places += [places[-1] + step for step in (range(1, size + 1) if entry.kind == "text" else [size])]
    for offset in range(len(LOG) + 1):
        if offset in places:
            await follow(viewer, offset)
        else:
            with pytest.raises(BadOffset, match="inside an entry"):
                await follow(viewer, offset)
    for offset in (len(LOG) + 1, 99_999):
        with pytest.raises(BadOffset, match=f"{len(LOG)} characters"):
            await follow(viewer, offset)


async def test_a_running_answer_says_so_as_soon_as_it_has_come_that_far(log: GenerationLog) -> None:
    await log.open("g", 1, "one")
    async with aclosing(viewer_of(log, Rows()).follow("g", 5)) as updates, asyncio.timeout(10):
        assert await anext(updates) == Update(5, (), 5)  # Perhaps there will be such a place.
        await log.append("g", 1, 3, "\x1erhm")
        with pytest.raises(BadOffset, match="inside an entry"):
            while True:
                await anext(updates)


async def test_what_a_message_keeps_lacks_the_last_seal(log: GenerationLog) -> None:
    """So whoever has that already goes on behind what is kept, and nothing is left for him."""
    kept = encode(ENTRIES[:-1])
    viewer = viewer_of(log, Rows("done", what=Kept(kept, len(kept))))
    assert await follow(viewer, len(LOG)) == [Update(len(LOG), (), len(LOG), "done")]
    with pytest.raises(BadOffset, match="inside an entry"):
        await follow(viewer, 1)


def test_frames_that_this_release_does_not_know_shift_no_offset() -> None:
    """Their length counts, although they are no entries: else text behind them was cut in the wrong place."""
    log = f'one{FOREIGN}two{FOREIGN}\x1ez{{ "seq" : 1 }}\x1fthree'
    two, three = log.index("two"), log.index("three")
    for cut in range(len(log) + 1):
        reader = _Reader(two + 1)
        first, second = reader.read(log[:cut]), reader.read(log[cut:], "done")
        assert text_of([*first.entries, *second.entries]) == "wothree"
        assert [entry.kind for entry in (*first.entries, *second.entries)].count("sealed") == 1
        assert second.next == len(log)
    reader = _Reader(three)
    assert reader.read(log).entries == (Entry("text", "three"),)
    reader = _Reader(two + len(f"two{FOREIGN}"))
    assert [entry.kind for entry in reader.read(log).entries] == ["sealed", "text"]


@pytest.mark.parametrize(
    ("pieces", "known"),
    [
        ([], []),
        (["one"], [True]),
        (["one", THOUGHT, "two", THOUGHT], [True, True, True, True]),
        ([FOREIGN], []),
        ([FOREIGN, "one"], [True]),
        (["one", FOREIGN], [True]),
        (["one", THOUGHT, FOREIGN], [False, True]),
        (["one", FOREIGN, THOUGHT, "two"], [False, False, True]),
    ],
)
def test_from_behind_each_entry_all_that_follows_is_seen_and_nothing_twice(
    pieces: list[str], known: list[bool]
) -> None:
    before, log = "So far: ", "".join(pieces)
    reader = _Reader(0)
    reader.read(before)
    update = reader.read(log)
    assert [place is not None for place in update.places] == known
    for at, place in enumerate(update.places, 1):
        if place is not None:
            rest = _Reader(place).read(f"{before}{log}end").entries
            assert encode(rest) == encode([*update.entries[at:], Entry("text", "end")])


async def test_the_owner_died_between_the_commit_and_the_end_of_the_log(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody will write to this log any more: in a silence the database is asked."""
    monkeypatch.setattr(mirror, "QUIET_S", 0.1)
    rows = Rows()
    await log.open("g", 1, "Let me")
    async with aclosing(viewer_of(log, rows).follow("g")) as updates, asyncio.timeout(10):
        assert text_of((await anext(updates)).entries) == "Let me"
        assert await anext(updates) == Update(6, (), 6)  # a sign of life
        asked = rows.asked
        assert asked >= 2
        rows.now, rows.what = "done", Kept("Let me see.", 11)
        last = await anext(updates)
        while last.end is None:
            last = await anext(updates)
        assert last == Update(6, (Entry("text", " see."),), 11, "done")


async def test_a_silence_in_which_the_database_is_away_is_no_news(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "QUIET_S", 0.1)
    rows = Rows(away=2)
    await log.open("g", 1, "Let me")
    async with aclosing(viewer_of(log, rows).follow("g", begun=True)) as updates, asyncio.timeout(10):
        assert text_of((await anext(updates)).entries) == "Let me"
        for _ in range(2):
            assert await anext(updates) == Update(6, (), 6)  # a sign of life all the same
        assert rows.away == 0
        await log.append("g", 1, 6, " see.")
        await log.end("g", 1, "done")
        last = [update async for update in updates][-1]
    assert (last.next, last.end) == (11, "done")


async def test_an_end_that_only_the_database_knows_is_read_once_it_is_back(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away between the two questions: it has ended, and what it came to cannot be read."""
    monkeypatch.setattr(mirror, "QUIET_S", 0.1)
    rows = Rows(what=Kept("Let me see.", 11))
    status = rows.status

    async def ended(generation_id: str) -> str | None:
        rows.now, rows.away = "done", 0
        found = await status(generation_id)
        rows.away = 1 if rows.asked < 3 else 0
        return found

    await log.open("g", 1, "Let me")
    monkeypatch.setattr(rows, "status", ended)
    async with aclosing(viewer_of(log, rows).follow("g", begun=True)) as updates, asyncio.timeout(10):
        seen = [update async for update in updates]
    assert seen[-1] == Update(6, (Entry("text", " see."),), 11, "done")
    assert Update(6, (), 6) in seen


@pytest.mark.parametrize("away", [1, 2, 4])
async def test_what_the_log_lacks_at_its_end_is_read_once_the_database_is_back(log: GenerationLog, away: int) -> None:
    await log.end("g", 1, "done")
    rows = Rows(away=away, what=Kept("all of it", 9))
    async with asyncio.timeout(20):
        seen = [update async for update in viewer_of(log, rows).follow("g", begun=True)]
    assert seen == [Update(0, (Entry("text", "all of it"),), 9, "done")]


async def test_a_database_that_stays_away_at_the_end_is_said(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "PATIENCE_S", 0.2)
    await log.end("g", 1, "done")
    rows = Rows(away=10_000)
    with pytest.raises(DatabaseUnavailable):
        async with asyncio.timeout(10):
            [update async for update in viewer_of(log, rows).follow("g", begun=True)]
    assert rows.asked > 1


async def test_text_flows_without_the_database_being_asked(log: GenerationLog) -> None:
    rows = Rows()
    await log.open("g", 1, LOG)
    await log.end("g", 1, "done")
    await follow(viewer_of(log, rows))
    assert rows.asked == 1
    async with aclosing(viewer_of(log, rows).follow("g", begun=True)) as updates:
        assert [update.end async for update in updates] == ["done"]
    assert rows.asked == 1


async def test_an_unknown_answer(log: GenerationLog) -> None:
    assert await follow(viewer_of(log, Rows(None))) == []


@pytest.mark.parametrize("status", ["done", "stopped", "failed", "refused"])
async def test_an_ended_answer_comes_from_its_message(log: GenerationLog, status: str) -> None:
    viewer = viewer_of(log, Rows(status, what=Kept(LOG, len(LOG))))
    assert await follow(viewer) == [Update(0, tuple(ENTRIES), len(LOG), status)]
    assert await viewer.entries("g") == ENTRIES


async def test_an_answer_that_nobody_keeps_any_more_is_gone(log: GenerationLog) -> None:
    await log.open("g", 1, LOG[:-1])
    viewer = viewer_of(log, Rows("done", what=Kept("", len(LOG))))
    with pytest.raises(Gone) as gone:
        await follow(viewer)
    assert gone.value.log_length == len(LOG)
    with pytest.raises(Gone):
        await viewer.entries("g")
    assert await follow(viewer_of(log, Rows("done", what=Kept("", len(LOG) - 1))))


async def test_a_log_that_was_made_anew_by_its_end_alone(log: GenerationLog) -> None:
    await log.end("g", 1, "done")
    rows = Rows(what=Kept("all of it", 9))
    assert await follow(viewer_of(log, rows)) == [Update(0, (Entry("text", "all of it"),), 9, "done")]
    rows.what = Kept("", 9)
    with pytest.raises(Gone):
        await follow(viewer_of(log, rows))
    rows.what = Kept()
    assert await follow(viewer_of(log, rows)) == [Update(0, (), 0, "done")]


async def test_text_that_the_store_lost_before_it_was_read_comes_from_the_message(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ValkeyLog(redis_url), ValkeyLog(redis_url)
    await one.start()
    await two.start()
    await one.open("g", 1)
    await one.append("g", 1, 0, "Let me ")
    rows = Rows(what=Kept("Let me see.", 11))
    async with aclosing(viewer_of(two, rows).follow("g")) as updates, asyncio.timeout(30):
        assert text_of((await anext(updates)).entries) == "Let me "
        feed = two._reader._feed
        monkeypatch.setattr(two._reader, "_feed", lambda fields: None)  # this post never arrives
        await one.append("g", 1, 7, "see.")
        await asyncio.sleep(0.1)
        monkeypatch.setattr(two._reader, "_feed", feed)
        read, lost = two._reader._mirrors._history, asyncio.Event()

        async def after_the_loss(generation: str) -> object:
            await lost.wait()
            return await read(generation)

        monkeypatch.setattr(two._mirrors, "_history", after_the_loss)
        await one.end("g", 1, "done")
        async with redis.asyncio.Redis.from_url(redis_url) as server:
            await server.delete(valkey_scripts.TEXT + "g")
        lost.set()
        assert [update async for update in updates] == [Update(7, (Entry("text", "see."),), 11, "done")]
    await one.close()
    await two.close()
