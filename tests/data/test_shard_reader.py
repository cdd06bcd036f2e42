"""What a process makes of where the store says that its own logs stand, and those that it watches."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from chat_app.data.log.base import Piece
from chat_app.data.log.mirror import Mirror, Mirrors
from chat_app.data.log.shard_reader import ShardReader, shard_of
from chat_app.data.log.valkey_scripts import CONTROL, SHARD

SHARD_OF_G = f"{SHARD}{shard_of('g')}"


async def _nothing(_: str) -> Piece:
    return Piece(0, "")


@pytest.mark.parametrize(
    ("known_end", "stored", "disowned"),
    [
        (None, {"fence": 3, "ended": False}, False),
        (None, {"fence": 4, "ended": False}, True),
        (None, {"fence": 4, "ended": True}, True),
        (None, {"fence": 3, "ended": True}, True),
        ("done", {"fence": 3, "ended": True}, False),
    ],
    ids=["still ours", "another owner", "another owner, ended", "ended without our knowing", "ended as we know"],
)
async def test_a_log_is_given_up_once_it_is_anothers_or_over(
    known_end: str | None, stored: Mapping[str, Any], disowned: bool
) -> None:
    mirrors = Mirrors(_nothing)
    mirror = mirrors.own("g", 3, "text", known_end)
    given_up: list[tuple[str, int]] = []
    reader = ShardReader("redis://127.0.0.1:1", mirrors, lambda _: None, lambda *what: given_up.append(what))
    reader._settle("g", mirror, length=4, stop=False, **stored)
    assert given_up == ([("g", 3)] if disowned else [])


async def test_a_stop_reaches_a_log_that_is_written_here_and_no_other() -> None:
    mirrors, stopped = Mirrors(_nothing), list[str]()
    reader = ShardReader("redis://127.0.0.1:1", mirrors, stopped.append, lambda *_: None)
    ours = mirrors.own("ours", 3, "text", None)
    reader._settle("ours", ours, 3, 4, ended=False, stop=False)
    assert stopped == []
    reader._settle("ours", ours, 3, 4, ended=False, stop=True)
    assert stopped == ["ours"]


# What is watched -----------------------------------------------------------------------------------------------------


class Watched:
    """A generation `g` of another process, of which one tail here has had what its history said."""

    def __init__(self, history: Piece) -> None:
        self.histories = 0
        self.mirrors = Mirrors(self._history)
        self.reader = ShardReader("redis://127.0.0.1:1", self.mirrors, lambda _: None, lambda *_: None)
        self.reader._positions[SHARD_OF_G] = "0-0"
        self._stored = history
        self._tail = self.mirrors.tail("g", 0)

    async def begin(self) -> Mirror:
        assert await anext(self._tail) == self._stored
        mirror = self.mirrors.get("g")
        assert mirror is not None
        return mirror

    async def _history(self, _: str) -> Piece:
        self.histories += 1
        return self._stored


@pytest.mark.parametrize(
    ("end", "length", "ended", "listening", "read_again"),
    [
        (None, 4, False, True, False),
        (None, 3, False, True, False),
        (None, 5, False, True, True),
        (None, 4, True, True, True),
        ("done", 4, True, True, False),
        (None, 4, False, False, True),
    ],
    ids=["as far", "less", "further", "ended", "ended as we know", "not listened to"],
)
async def test_a_history_is_read_again_where_the_store_knows_more(
    end: str | None, length: int, ended: bool, listening: bool, read_again: bool
) -> None:
    watched = Watched(Piece(0, "text", end))
    mirror = await watched.begin()
    if not listening:
        watched.reader._positions.clear()
    watched.reader._settle("g", mirror, 3, length, ended, stop=False)
    await asyncio.sleep(0)
    assert watched.histories == (2 if read_again else 1)


async def test_posts_feed_what_is_watched_and_only_a_gap_is_read_again() -> None:
    watched = Watched(Piece(0, "text"))
    mirror = await watched.begin()
    watched.reader._feed({b"g:4:p": b" and", b"other:0:p": b"of nobody here", b"g:8:p": b" more"})
    await asyncio.sleep(0)
    assert (mirror.text(), mirror.end, watched.histories) == ("text and more", None, 1)
    watched.reader._feed({b"g:20:p": b"behind a gap"})
    await asyncio.sleep(0)
    assert watched.histories == 2
    watched.reader._feed({b"g:13:e:failed: it: all": b""})
    assert mirror.end == "failed: it: all"


async def test_posts_do_not_feed_what_is_written_here() -> None:
    mirrors = Mirrors(_nothing)
    mirror = mirrors.own("g", 3, "text", None)
    reader = ShardReader("redis://127.0.0.1:1", mirrors, lambda _: None, lambda *_: None)
    for post in ({b"g:4:p": b"more"}, {b"g:0:r": b""}, {b"g:4:e:done": b""}):
        reader._feed(post)
    assert (mirror.text(), mirror.end, mirror.loaded) == ("text", None, True)


@pytest.mark.parametrize(("taken", "given_up"), [("g:2", False), ("g:3", False), ("g:4", True), ("h:4", False)])
async def test_what_a_higher_number_has_taken_is_given_up(taken: str, given_up: bool) -> None:
    mirrors, away = Mirrors(_nothing), list[tuple[str, int]]()
    mirrors.own("g", 3, "text", None)
    reader = ShardReader("redis://127.0.0.1:1", mirrors, lambda _: None, lambda *what: away.append(what))
    reader._obey({b"taken": taken.encode()})
    assert away == ([("g", 3)] if given_up else [])


async def test_what_is_only_watched_cannot_be_taken() -> None:
    watched, away = Watched(Piece(0, "text")), list[object]()
    await watched.begin()
    watched.reader._disown = lambda *what: away.append(what)
    watched.reader._obey({b"taken": b"g:4"})
    assert away == []


async def test_only_the_shards_of_what_is_watched_are_listened_to() -> None:
    watched = Watched(Piece(0, "text"))
    await watched.begin()
    written = next(f"g{n}" for n in range(100) if shard_of(f"g{n}") != shard_of("g"))
    watched.mirrors.own(written, 3, "", None)
    tail = watched.mirrors.tail(written, 0)
    waiting = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0)
    needed = {CONTROL, watched.reader._wake, SHARD_OF_G}
    watched.reader._positions = dict.fromkeys((*needed, f"{SHARD}{shard_of(written)}"), "0-0")
    watched.reader._forget_unneeded()
    assert watched.reader._positions.keys() == needed
    waiting.cancel()
