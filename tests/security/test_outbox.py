"""What waits for a page is counted until the network has taken it, and bounded."""

import asyncio
from typing import Any

import pytest
from engineio.packet import CLOSE, MESSAGE, OPEN, Packet

from chat_app.ui.guard import outbox as module
from chat_app.ui.guard.outbox import BESIDE, MOST_WAITING, OUTBOX, Outbox, Outboxes, current

LARGE = "x" * (MOST_WAITING // 3)


class Line:
    """A socket's connection: its outbox, and how often it was cut."""

    def __init__(self, among: Outboxes) -> None:
        self.cuts = 0
        self.box = among.opened(self._cut)

    def put(self, text: str) -> None:
        self.box.put_nowait(message(text))

    def _cut(self) -> None:
        self.cuts += 1


def message(text: str) -> Packet:
    return Packet(MESSAGE, text)  # type: ignore[no-untyped-call]


@pytest.fixture
def among() -> Outboxes:
    return Outboxes()


@pytest.fixture
def line(among: Outboxes) -> Line:
    return Line(among)


async def written(box: Outbox) -> list[str]:
    """What a writer sends that is never held up, until nothing waits."""
    sent = []
    while box.qsize():
        sent.append((await box.get()).data)
        box.task_done()
    return sent


async def test_messages_are_sent_in_order_one_at_a_time(line: Line) -> None:
    for text in ("a", "b", "c"):
        line.put(text)
    assert (await line.box.get()).data == "a"
    with pytest.raises(asyncio.QueueEmpty):  # Engine.IO's writer would take all that there is.
        line.box.get_nowait()
    assert await written(line.box) == ["b", "c"]


async def test_a_message_waits_until_the_next_one_is_asked_for(line: Line, among: Outboxes) -> None:
    line.put(LARGE)
    line.put("small")
    waiting = line.box.waiting
    assert among.waiting == waiting > len(LARGE) + BESIDE
    await line.box.get()
    assert line.box.waiting == waiting
    await line.box.get()
    assert 0 < line.box.waiting == among.waiting < 2 * BESIDE
    next_one = asyncio.create_task(line.box.get())
    await asyncio.sleep(0)
    assert line.box.waiting == among.waiting == 0
    next_one.cancel()


async def test_a_page_that_reads_gets_however_much(line: Line) -> None:
    for at in range(9):
        line.put(f"{at}{LARGE}")
        assert [text[0] for text in await written(line.box)] == [str(at)]
    assert line.cuts == 0


async def test_one_message_may_be_longer_than_all_that_may_wait(line: Line) -> None:
    line.put("x" * 2 * MOST_WAITING)
    assert line.box.qsize() == 1 and line.cuts == 0


async def test_a_page_that_does_not_read_is_cut_off_and_nothing_more_waits_for_it(line: Line, among: Outboxes) -> None:
    for _ in range(3):
        line.put(LARGE)
    assert line.box.waiting > MOST_WAITING and line.cuts == 0
    line.put("one more")
    assert line.cuts == 1
    assert (line.box.qsize(), line.box.waiting, among.waiting) == (0, 0, 0)
    line.put(LARGE)
    assert (line.box.qsize(), line.box.waiting, line.cuts) == (0, 0, 1)


async def test_what_is_being_sent_counts_and_is_counted_once(line: Line, among: Outboxes) -> None:
    for _ in range(3):
        line.put(LARGE)
    await line.box.get()
    line.put("one more")
    assert line.cuts == 1
    ended = asyncio.create_task(line.box.get())  # Its writer finds out, and comes back.
    await asyncio.sleep(0)
    assert (line.box.waiting, among.waiting) == (0, 0)
    line.box.put_nowait(None)
    assert await ended is None


async def test_a_flood_of_small_messages_counts(line: Line) -> None:
    for _ in range(MOST_WAITING // BESIDE + 1):
        line.put("pong")
    assert line.cuts == 1


async def test_a_message_that_takes_too_long_is_the_last(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.put("first")
    line.put("second")
    await line.box.get()
    line.put("third")
    assert line.cuts == 0
    monkeypatch.setattr(module, "LONGEST_WAIT_S", -1.0)
    line.put("fourth")
    assert line.cuts == 1
    idle = Line(Outboxes())
    idle.put("first")  # Nothing was on its way.
    assert idle.cuts == 0


async def test_where_all_have_too_much_the_one_with_the_most_is_cut_off(
    among: Outboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_ALL", 2 * len(LARGE))
    small, large, late = (Line(among) for _ in range(3))
    small.put("small")
    large.put(LARGE)
    late.put(LARGE[:-9])
    assert [each.cuts for each in (small, large, late)] == [0, 1, 0]
    assert small.box.waiting + late.box.waiting == among.waiting < 2 * len(LARGE)


async def test_a_socket_that_is_over_is_forgotten(among: Outboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, here = Line(among), Line(among)
    gone.put(LARGE)
    gone.box.close()
    assert among.waiting == 0
    monkeypatch.setattr(module, "MOST_OF_ALL", 0)
    here.put("a")
    assert (gone.cuts, here.cuts) == (0, 1)
    assert among._all == {here.box}


@pytest.mark.parametrize("over", [True, False])
async def test_a_connection_has_a_moment_to_end(over: bool, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_S", 0.0)
    line.put("on its way")
    await line.box.get()
    line.box.put_nowait(None)
    line.box.end_soon()
    if over:
        line.box.close()
    await asyncio.sleep(0.01)
    assert line.cuts == (not over)
    assert await line.box.get() is None


@pytest.mark.parametrize("odd", [Packet(OPEN, {"sid": "a"}), Packet(CLOSE)])  # type: ignore[no-untyped-call]
async def test_words_of_the_protocol_pass(odd: Any, line: Line) -> None:
    line.box.put_nowait(odd)
    assert await line.box.get() is odd


async def test_the_end_reaches_a_writer_of_a_connection_that_is_cut_off(line: Line) -> None:
    line.put(LARGE)
    line.box.put_nowait(None)
    line.box.cut_off()
    assert await line.box.get() is None
    line.box.task_done()
    await line.box.join()


def test_engine_io_gets_the_outbox_of_the_socket_that_is_served(line: Line) -> None:
    token = OUTBOX.set(line.box)
    assert current() is line.box
    OUTBOX.reset(token)
