"""One suite for the generation log on SQLite and on Valkey."""

import asyncio
import random
import time
from contextlib import aclosing, suppress
from itertools import pairwise

import pytest

from chat_app.data.ids import new_id
from chat_app.data.log.base import GenerationLog, LogUnavailable, Piece, StaleOwner, WrongOffset
from tests.data.conftest import NewLog
from tests.data.logs import some_words, watch, write

# Rules of writing ----------------------------------------------------------------------------------------------------


async def test_an_append_continues_the_log(log: GenerationLog) -> None:
    assert await log.open("g", 1) == ""
    await log.append("g", 1, 0, "añ🎉")
    await log.append("g", 1, 3, "b")
    for offset in (0, 3, 5, 1_000):
        with pytest.raises(WrongOffset) as refusal:
            await log.append("g", 1, offset, "b")
        assert refusal.value.length == 4
    assert await log.read("g") == Piece(0, "añ🎉b")
    assert await log.read("g", 2) == Piece(2, "🎉b")
    assert await log.read("g", 4) == Piece(4, "")


async def test_it_is_read_from_any_character_on(log: GenerationLog) -> None:
    await log.open("g", 1)
    text = await write(log, "g", 1, ["añ🎉", "b", "日本語", "c"])
    for offset in range(len(text) + 2):
        assert await log.read("g", offset) == Piece(offset, text[offset:])


async def test_a_lower_fence_may_not_write(log: GenerationLog) -> None:
    await log.open("g", 5)
    await log.append("g", 5, 0, "old ")
    assert await log.open("g", 7) == "old "
    with pytest.raises(StaleOwner):
        await log.append("g", 5, 4, "late")
    with pytest.raises(StaleOwner):
        await log.open("g", 6)
    with pytest.raises(StaleOwner):
        await log.end("g", 5, "done")
    await log.append("g", 7, 4, "new")
    await log.end("g", 7, "done")
    assert await log.read("g") == Piece(0, "old new", "done")


async def test_only_who_has_opened_may_append(log: GenerationLog) -> None:
    with pytest.raises(WrongOffset):
        await log.append("g", 1, 0, "x")
    await log.open("g", 1)
    with pytest.raises(WrongOffset):
        await log.append("g", 2, 0, "x")
    assert await log.read("g") == Piece(0, "")


async def test_end_closes(log: GenerationLog) -> None:
    await log.open("g", 1)
    await log.append("g", 1, 0, "text")
    await log.end("g", 1, "done")
    await log.end("g", 1, "failed")  # again changes nothing
    assert await log.read("g", 2) == Piece(2, "xt", "done")
    with pytest.raises(StaleOwner):
        await log.append("g", 1, 4, "more")
    assert await log.open("g", 2) == "text"  # a new owner finds out by reading
    assert (await log.read("g")).end == "done"


async def test_end_of_what_was_never_opened(log: GenerationLog) -> None:
    viewer = asyncio.create_task(watch(log, "g"))
    await asyncio.sleep(0.05)
    await log.end("g", 1, "refused")
    assert await asyncio.wait_for(viewer, 30) == ("", "refused", 1)
    assert await log.read("g") == Piece(0, "", "refused")


async def test_open_restores_what_the_log_has_lost(log: GenerationLog) -> None:
    assert await log.open("g", 1, "wie wär's ") == "wie wär's "
    await log.append("g", 1, 10, "mit mehr")
    assert await log.open("g", 2, "wie") == "wie wär's mit mehr"
    assert await log.read("g") == Piece(0, "wie wär's mit mehr")
    longer = "wie wär's mit mehr und mehr"
    assert await log.open("g", 3, longer) == longer
    await log.append("g", 3, len(longer), "!")
    assert await log.read("g", 5) == Piece(5, longer[5:] + "!")


async def test_unknown_generation(log: GenerationLog) -> None:
    assert await log.read("never") == Piece(0, "")
    assert await log.read("never", 7) == Piece(7, "")


async def test_generations_do_not_mix(log: GenerationLog) -> None:
    ids = [new_id() for _ in range(20)]
    for fence, generation in enumerate(ids, 1):
        await log.open(generation, fence)
    texts = await asyncio.gather(
        *(write(log, generation, fence, some_words(30, fence)) for fence, generation in enumerate(ids, 1))
    )
    assert [(await log.read(generation)).text for generation in ids] == texts


async def test_text_that_is_none_is_refused_alone(log: GenerationLog) -> None:
    await log.open("g", 1)
    await log.open("h", 1)
    results = await asyncio.gather(
        log.append("g", 1, 0, "good"),
        log.append("h", 1, 0, "bad \ud800"),
        log.append("g", 1, 4, " too"),
        return_exceptions=True,
    )
    assert results[0] is None
    assert results[2] is None
    assert isinstance(results[1], ValueError)
    assert (await log.read("g")).text == "good too"
    assert (await log.read("h")).text == ""


async def test_appends_may_be_sent_without_waiting(log: GenerationLog) -> None:
    await log.open("g", 1)
    await asyncio.gather(*(log.append("g", 1, n, str(n)) for n in range(10)), log.end("g", 1, "done"))
    assert await log.read("g") == Piece(0, "0123456789", "done")


async def test_a_cancelled_append_is_stored_whole_or_not(log: GenerationLog) -> None:
    await log.open("g", 1)
    for _ in range(20):
        length = len((await log.read("g")).text)
        task = asyncio.create_task(log.append("g", 1, length, "ab"))
        await asyncio.sleep(random.uniform(0, 0.004))
        task.cancel()
        with suppress(asyncio.CancelledError, WrongOffset):  # the one before may come in late
            await task
    while True:  # what was cancelled under way may still come in
        text = (await log.read("g")).text
        with suppress(WrongOffset):
            await log.append("g", 1, len(text), "!")
            break
    assert (await log.read("g")).text == text + "!"
    assert set(pairwise(text)) <= {("a", "b"), ("b", "a")}
    assert len(text) % 2 == 0


# Flushing ------------------------------------------------------------------------------------------------------------


async def test_what_is_added_to_an_idle_log_goes_out_in_the_next_turn_of_the_loop(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer lies between an append and its flush; what is added meanwhile goes out with the next flush."""
    for n in range(20):
        await log.open(f"g{n}", 1)
    flushes: list[int] = []
    store, may_end = log._flusher._store, asyncio.Event()  # type: ignore[attr-defined]

    async def counted(appends: list[object]) -> None:
        flushes.append(len(appends))
        await store(appends)
        await may_end.wait()

    monkeypatch.setattr(log._flusher, "_store", counted)  # type: ignore[attr-defined]

    def append(number: int, offset: int) -> asyncio.Task[None]:
        return asyncio.create_task(log.append(f"g{number}", 1, offset, "x"))

    tasks = [append(n, 0) for n in range(20)]
    await asyncio.sleep(0)  # all of them are added in this turn
    assert flushes == []
    await asyncio.sleep(0)
    assert flushes == [20]
    for n in range(3):
        tasks.append(append(n, 1))
        await asyncio.sleep(0.001)
    assert flushes == [20]
    may_end.set()
    await asyncio.gather(*tasks)
    assert flushes == [20, 3]


async def test_more_than_goes_out_in_one_call_is_stored_too(
    log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.data.log.valkey.MOST_APPENDS", 2)
    await log.open("g", 1)
    await log.open("h", 1)
    await asyncio.gather(*(log.append(name, 1, n, str(n)) for n in range(5) for name in ("g", "h")))
    assert [await log.read(name) for name in ("g", "h")] == [Piece(0, "01234")] * 2


# Tails ---------------------------------------------------------------------------------------------------------------


async def test_every_tail_sees_the_exact_text(new_log: NewLog) -> None:
    """Early, late, slow and fast viewers, at any offset, here and in another process, while others write too."""
    log, other = await new_log(), await new_log()
    dice = random.Random(1)
    viewers: list[tuple[str, int, asyncio.Task[tuple[str, str, int]]]] = []

    def look(generation: str, upto: int) -> None:
        offset = dice.randint(0, upto)
        viewer = asyncio.create_task(
            watch(dice.choice([log, other]), generation, offset, pause=dice.choice([0, 0, 0.01, 0.2]))
        )
        viewers.append((generation, offset, viewer))

    async def run(generation: str, seed: int) -> str:
        look(generation, 0)
        await asyncio.sleep(seed * 0.003)
        await log.open(generation, seed + 1)
        words, text = some_words(80, seed), ""
        for n, word in enumerate(words):
            if n % 9 == 0:
                look(generation, len(text))
            text = await write(log, generation, seed + 1, [word], text)
        await log.end(generation, seed + 1, f"status{seed}")
        look(generation, len(text))
        return text

    texts = await asyncio.gather(*(run(f"g{seed}", seed) for seed in range(12)))
    for generation, offset, viewer in viewers:
        number = int(generation[1:])
        seen, status, _ = await asyncio.wait_for(viewer, 20)
        assert (seen, status) == (texts[number][offset:], f"status{number}")


async def test_a_slow_viewer_gets_the_rest_in_one_piece(log: GenerationLog) -> None:
    await log.open("g", 1)
    await log.append("g", 1, 0, "first")
    async with aclosing(log.tail("g")) as tail:
        assert await anext(tail) == Piece(0, "first")
        text = await write(log, "g", 1, some_words(50), "first")
        await log.end("g", 1, "done")
        assert await anext(tail) == Piece(5, text[5:], "done")
        assert await anext(tail, None) is None


async def test_a_tail_shows_nothing_that_is_not_stored(log: GenerationLog) -> None:
    await log.open("g", 1)
    text = ""
    async with aclosing(log.tail("g")) as tail:
        for word in some_words(30):
            writing = asyncio.create_task(log.append("g", 1, len(text), word))
            piece = await anext(tail)
            assert (await log.read("g")).text == text + word
            assert piece == Piece(len(text), word)
            text += word
            await writing


async def test_leaving_a_tail_forgets_it(log: GenerationLog) -> None:
    tails = [log.tail("g", n) for n in range(5)]
    waiting = [asyncio.create_task(anext(tail)) for tail in tails]
    await asyncio.sleep(0.05)
    mirrors = log._mirrors  # type: ignore[attr-defined]
    assert mirrors.get("g") is not None
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for tail in tails:
        await tail.aclose()
    assert mirrors.get("g") is None


async def test_nothing_is_kept_of_what_has_ended(log: GenerationLog) -> None:
    for n in range(10):
        viewer = asyncio.create_task(watch(log, f"g{n}"))
        await log.open(f"g{n}", 1)
        log.stop_requested(f"g{n}")
        await log.append(f"g{n}", 1, 0, "x")
        await log.end(f"g{n}", 1, "done")
        await viewer
    assert log._mirrors.items() == []  # type: ignore[attr-defined]
    await log.open("h", 2)
    with pytest.raises(StaleOwner):
        await log.open("h", 1)
    await log.end("h", 2, "done")
    assert len(log._stops) == 0  # type: ignore[attr-defined]


async def test_a_tail_beyond_the_text_waits_for_it(log: GenerationLog) -> None:
    await log.open("g", 1, "12345")
    viewer = asyncio.create_task(watch(log, "g", 8))
    await asyncio.sleep(0.05)
    await write(log, "g", 1, ["67", "89", "ab"], "12345")
    await log.end("g", 1, "done")
    seen, status, _ = await asyncio.wait_for(viewer, 30)
    assert (seen, status) == ("9ab", "done")


async def test_closing_the_log_ends_its_tails(new_log: NewLog) -> None:
    log = await new_log()
    await log.open("g", 1)
    viewer = asyncio.create_task(watch(log, "g"))
    await asyncio.sleep(0.05)
    await log.close()
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(viewer, 30)
    with pytest.raises(LogUnavailable):
        await log.append("g", 1, 0, "x")


# Stop ----------------------------------------------------------------------------------------------------------------


async def test_stop_reaches_the_owner(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await log.open("g", 1)
    await log.open("h", 1)
    event = log.stop_requested("g")
    begin = time.perf_counter()
    await other.request_stop("g")
    await asyncio.wait_for(event.wait(), 30)
    assert time.perf_counter() - begin < 2  # it is notified, it does not poll
    assert not log.stop_requested("h").is_set()


async def test_a_stop_between_opening_and_listening_is_heard(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await log.open("g", 1)
    await other.request_stop("g")
    await asyncio.wait_for(log.stop_requested("g").wait(), 30)


async def test_stop_is_seen_by_a_later_owner(new_log: NewLog) -> None:
    log, other = await new_log(), await new_log()
    await other.request_stop("g")
    await log.open("g", 1)
    assert log.stop_requested("g").is_set()
