"""A mirror whose history is read while text keeps coming, in every order that hypothesis finds."""

import asyncio
import gc
import weakref
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.data.log import mirror as mirrors
from chat_app.data.log.base import Piece
from chat_app.data.log.flush import Append
from chat_app.data.log.mirror import Mirror, Mirrors


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12),
    arrives=st.lists(st.integers(0, 6), min_size=13, max_size=13),
    reads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=20, max_size=20),
    deaf=st.integers(0, 12),
    offset=st.integers(0, 4),
    kept=st.sampled_from([0, 0, 1, 3]),
)
def test_every_order_gives_the_exact_text(
    pieces: list[str], arrives: list[int], reads: list[tuple[int, int]], deaf: int, offset: int, kept: int
) -> None:
    """Posts arrive late but in order, the first `deaf` of them never; a history is as old as its read took."""
    whole = "".join(pieces)

    async def run() -> str:
        stored, end = "", None
        left = iter(reads * 10)

        async def history(_: str) -> Piece:
            before, after = next(left)
            for _ in range(before):
                await asyncio.sleep(0)
            piece = Piece(0, stored, end)
            for _ in range(after):
                await asyncio.sleep(0)
            return piece

        known = Mirrors(history)
        posts: asyncio.Queue[Piece] = asyncio.Queue()

        async def listen() -> None:
            while True:
                post = await posts.get()
                for _ in range(arrives[post.offset % len(arrives)]):
                    await asyncio.sleep(0)
                mirror = known.get("g")
                if mirror is not None and not mirror.feed(post.offset, post.text, post.end) and mirror.loaded:
                    known.refresh("g", mirror)

        async def view() -> str:
            seen = ""
            async with aclosing(known.tail("g", offset)) as tail:
                async for piece in tail:
                    assert piece.offset == offset + len(seen)
                    seen += piece.text
            return seen

        listening, viewer = asyncio.create_task(listen()), asyncio.create_task(view())
        for n, text in enumerate([*pieces, ""]):
            last = n == len(pieces)
            post = Piece(len(stored), text, "done" if last else None)
            stored, end = stored + text, post.end
            if n >= deaf or last:
                posts.put_nowait(post)
            for _ in range(arrives[n] // 2):
                await asyncio.sleep(0)
        for _ in range(600):  # turns of the loop: nothing here waits for anything else
            await asyncio.sleep(0)
        listening.cancel()
        assert viewer.done(), "the tail hangs"
        return viewer.result()

    most, mirrors.MOST_AHEAD = mirrors.MOST_AHEAD, kept
    try:
        assert asyncio.run(run()) == whole[offset:]
    finally:
        mirrors.MOST_AHEAD = most


def test_feeding_again_changes_nothing() -> None:
    mirror = Mirror()
    for offset, text in [(0, "abc"), (0, "abc"), (1, "bcd"), (2, "c"), (4, "ef"), (0, "abcdefg")]:
        assert mirror.feed(offset, text)
    assert mirror.text() == "abcdefg"
    assert [mirror.since(n) for n in (0, 3, 6)] == [Piece(0, "abcdefg"), Piece(3, "defg"), Piece(6, "g")]
    assert mirror.since(7) is None


def test_what_came_early_follows_as_soon_as_what_was_missing_is_there() -> None:
    mirror = Mirror()
    assert not mirror.feed(2, "c")
    assert not mirror.feed(3, "d")
    assert not mirror.feed(5, "f", "done")
    assert mirror.feed(0, "ab")
    assert (mirror.text(), mirror.end) == ("abcd", None)
    assert mirror.feed(4, "e")
    assert (mirror.text(), mirror.end) == ("abcdef", "done")


async def test_a_tail_says_that_it_is_quiet_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "QUIET_S", 0.05)
    known = Mirrors(_nothing)
    mirror = known.own("g", 1, "ab", None)
    async with aclosing(known.tail("g", 0)) as tail:
        assert await anext(tail) == Piece(0, "ab")
        assert [await anext(tail) for _ in range(3)] == [Piece(2, "")] * 3
        mirror.feed(2, "c", "done")
        assert await anext(tail) == Piece(2, "c", "done")


async def _nothing(_: str) -> Piece:
    return Piece(0, "")


async def test_an_end_behind_text_that_is_missing_waits_for_the_history() -> None:
    """It comes with its length: a tail sees the text before it, or where the store has lost that, sees that it has."""
    stored = Piece(0, "abcde", "done")
    reads = 0

    async def history(_: str) -> Piece:
        nonlocal reads
        reads += 1
        return stored

    known = Mirrors(history)
    for text, pieces in [("abcde", [Piece(3, "de", "done")]), ("", [Piece(5, "", "done")])]:
        stored = Piece(0, text, "done")
        mirror = known.own("g", 1, "abc", None)
        tail = known.tail("g", 0)
        assert await anext(tail) == Piece(0, "abc")
        known.stored(Append("g", 1, 5, "", b"", "done"), 5)
        known.disown("g", 1)
        assert mirror.since(3) is None
        assert [piece async for piece in tail] == pieces
    assert reads == 2
    assert known.items() == []


async def test_a_gap_in_what_is_stored_here_is_closed_from_the_history() -> None:
    async def history(_: str) -> Piece:
        return Piece(0, "abcde")

    known = Mirrors(history)
    known.own("g", 1, "a", None)
    async with aclosing(known.tail("g", 1)) as tail:
        known.stored(Append("g", 1, 3, "d", b""), 3)
        assert await anext(tail) == Piece(1, "bcde")


async def test_opening_again_sets_the_tails_right_and_wakes_them() -> None:
    known = Mirrors(_nothing)
    known.own("g", 1, "ab", None)
    async with aclosing(known.tail("g", 2)) as tail:
        next_piece = asyncio.ensure_future(anext(tail))
        await asyncio.sleep(0)
        for text, end in (("ab", None), ("", None), ("a", None), ("abcd", None)):
            assert not next_piece.done()
            known.own("g", 2, text, end)
        assert await asyncio.wait_for(next_piece, 1) == Piece(2, "cd")
        next_piece = asyncio.ensure_future(anext(tail))
        await asyncio.sleep(0)
        mirror = known.own("g", 3, "abcd", "done")
        assert await asyncio.wait_for(next_piece, 1) == Piece(4, "", "done")
    assert (mirror.fence, mirror.begun, mirror.loaded) == (3, False, True)
    assert mirror.text() == "abcd"


async def test_a_mirror_is_kept_for_its_writer_or_its_tails() -> None:
    known = Mirrors(_nothing)
    known.own("g", 2, "ab", None)
    assert not known.disown("g", 1)
    assert not known.disown("h", 1)
    tail = known.tail("g", 0)
    assert await anext(tail) == Piece(0, "ab")
    assert known.disown("g", 2)
    assert not known.disown("g", 2)
    assert known.get("g") is not None
    await tail.aclose()
    assert known.get("g") is None
    known.own("g", 2, "ab", None)
    assert known.disown("g", 2)
    assert known.get("g") is None


def test_a_reset_forgets_the_end_and_what_came_early() -> None:
    mirror = Mirror()
    assert mirror.feed(0, "abc", "done")
    assert not mirror.feed(7, "h")
    mirror.reset("ab")
    assert mirror.since(2) is None
    assert mirror.feed(2, "cdefg")
    assert mirror.text() == "abcdefg"
    assert mirror.since(7) is None


def test_an_end_after_a_reset_lies_where_it_lies_now() -> None:
    mirror = Mirror()
    assert mirror.feed(0, "abcdef", "done")
    mirror.reset("ab")
    assert mirror.feed(2, "c", "failed")
    assert mirror.since(0) == Piece(0, "abc", "failed")
    assert mirror.since(3) == Piece(3, "", "failed")


def test_a_mirror_says_whether_it_has_moved() -> None:
    mirror = Mirror()
    assert not mirror.moved()
    mirror.feed(0, "a")
    assert mirror.moved()
    assert not mirror.moved()


def test_what_is_known_comes_before_an_end_behind_a_gap() -> None:
    mirror = Mirror()
    assert mirror.feed(0, "abc")
    assert not mirror.feed(5, "", "done")
    assert mirror.feed(0, "", "done")  # the history, of which the store has lost the text
    assert mirror.since(0) == Piece(0, "abc")
    assert mirror.since(3) == Piece(5, "", "done")


async def test_a_history_from_before_a_reset_is_read_again() -> None:
    reset, histories = asyncio.Event(), iter([Piece(0, "of before"), Piece(0, "new")])

    async def history(_: str) -> Piece:
        piece = next(histories)
        await reset.wait()
        return piece

    known = Mirrors(history)
    mirror = known.own("g", 1, "of", None)
    loading = known.refresh("g", mirror)
    await asyncio.sleep(0)
    mirror.reset()
    reset.set()
    await loading
    assert mirror.text() == "new"


def test_no_more_is_kept_early_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "MOST_AHEAD", 2)
    mirror = Mirror()
    for offset in (5, 6, 7, 8):
        assert not mirror.feed(offset, "x")
    assert ([piece.offset for piece in mirror.ahead], mirror.missed) == ([5, 6], 2)


async def test_nothing_is_done_or_kept_for_a_tail_that_has_left() -> None:
    begun = asyncio.Event()

    async def history(_: str) -> Piece:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    known = Mirrors(history)
    tail = known.tail("g", 0)
    waiting = asyncio.create_task(anext(tail))
    await begun.wait()
    mirror = known.get("g")
    assert mirror is not None and mirror.loading is not None
    news = weakref.ref(next(iter(mirror.waiters)))
    loading = mirror.loading
    waiting.cancel()
    await asyncio.wait({waiting})
    await tail.aclose()
    await asyncio.wait({loading}, timeout=10)
    assert loading.cancelled()
    assert known.items() == []
    del mirror, tail, waiting
    gc.collect()
    assert news() is None  # no timer of the tail's holds it


async def test_a_history_that_fails_with_nobody_waiting_is_no_error_of_the_loops() -> None:
    async def history(_: str) -> Piece:
        raise KeyError("a defect")

    reported = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))
    known = Mirrors(history)
    mirror = known.own("g", 1, "", None)
    await asyncio.wait({known.refresh("g", mirror)})
    mirror.loading = None
    gc.collect()
    assert reported == []
    with pytest.raises(KeyError):
        await anext(known.tail("h", 0))
