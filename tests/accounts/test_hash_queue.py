"""The queue before argon2: in which order lanes take turns, who is refused, and that nobody's place is lost."""

import asyncio
from collections.abc import AsyncIterator
from threading import Event, Semaphore

import pytest

from chat_app.accounts.hash_queue import AT_ONCE, BUSY_S, HashQueue
from chat_app.accounts.identity import AccountError


class Counter:
    """A queue whose threads are all busy until `open`; notes who was served, in order."""

    def __init__(self, queue: HashQueue) -> None:
        self.queue = queue
        self.served: list[str] = []
        self._gate = Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self) -> None:
        """Take every thread."""
        for _ in range(AT_ONCE):
            self._tasks.append(asyncio.create_task(self.queue.run("running", self._gate.wait)))  # type: ignore[arg-type]
        await settled()

    async def come(self, *lanes: str, known: bool = False) -> list[asyncio.Task[None]]:
        """Somebody of each lane, one behind the other."""
        tasks = [asyncio.create_task(self._served(lane, known)) for lane in lanes]
        self._tasks += tasks
        await settled()
        return tasks

    async def open(self) -> None:
        """Let everybody through; returns when all have been served or refused."""
        self._gate.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _served(self, lane: str, known: bool) -> None:
        await self.queue.run(lane, lambda: self.served.append(lane), known=known)


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    made = Counter(HashQueue(most=6, reserved=2))
    await made.fill()
    yield made
    await made.open()


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def refused(task: asyncio.Task[None]) -> bool:
    error = task.exception() if task.done() and not task.cancelled() else None
    return isinstance(error, AccountError) and (error.code, error.retry_after) == ("busy", BUSY_S)


async def test_a_flood_delays_another_lane_by_one_place(counter: Counter) -> None:
    await counter.come("flood", "flood", "flood", "ada")
    await counter.open()
    assert counter.served.index("ada") <= AT_ONCE  # Threads may change places, no more.
    assert sorted(counter.served) == ["ada", "flood", "flood", "flood"]


async def test_when_it_is_full_the_longest_lane_gives_way(counter: Counter) -> None:
    flood = await counter.come("flood", "flood", "flood", "flood")
    [late] = await counter.come("flood")
    assert refused(late)
    [ada] = await counter.come("ada")
    assert [refused(task) for task in flood] == [False, False, False, True]  # The last to come goes first.
    assert not ada.done()
    assert counter.queue.waiting == 4
    await counter.open()
    assert "ada" in counter.served


async def test_when_all_lanes_are_short_a_newcomer_is_refused_in_plain_words(counter: Counter) -> None:
    before = await counter.come("a", "b", "c", "d")
    [late] = await counter.come("e")
    assert refused(late)
    assert "busy" in str(late.exception()) and f"{BUSY_S} seconds" in str(late.exception())
    assert not any(task.done() for task in before)


async def test_some_places_are_kept_for_devices_that_are_known(counter: Counter) -> None:
    await counter.come("a", "b", "c", "d")
    known = await counter.come("device:1", "device:2", "device:3", known=True)
    assert [refused(task) for task in known] == [False, False, True]


async def test_whoever_goes_away_leaves_the_queue(counter: Counter) -> None:
    waiting = await counter.come("a", "b", "a", "c")
    waiting[0].cancel()
    waiting[1].cancel()
    await settled()
    assert counter.queue.waiting == 2
    assert not any(refused(task) for task in await counter.come("d", "e"))
    await counter.open()
    assert sorted(counter.served) == ["a", "c", "d", "e"]


async def test_a_thread_that_nobody_waits_for_any_more_keeps_its_place_until_it_has_ended() -> None:
    queue, gate, started = HashQueue(), Event(), Semaphore(0)

    def work() -> None:
        started.release()
        gate.wait()

    gone = [asyncio.create_task(queue.run("gone", work)) for _ in range(AT_ONCE)]
    for _ in gone:  # What no thread has begun yet is taken back instead, and its place is free at once.
        assert await asyncio.to_thread(started.acquire, timeout=10)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    later = asyncio.create_task(queue.run("later", lambda: "done"))
    await settled()
    assert queue.waiting == 1
    gate.set()
    assert await later == "done"


async def test_a_turn_that_comes_as_its_caller_leaves_is_passed_on(counter: Counter) -> None:
    leaving, staying = await counter.come("leaving", "staying")
    counter.queue._pass_on()  # As when a thread has ended.
    leaving.cancel()
    await settled()
    assert counter.queue.waiting == 0
    await counter.open()
    assert staying.done() and counter.served == ["staying"]


async def test_whoever_leaves_in_the_moment_of_their_turn_is_passed_over(counter: Counter) -> None:
    leaving, staying = await counter.come("leaving", "staying")
    leaving.cancel()  # It has not noticed yet.
    counter.queue._pass_on()
    await settled()
    assert (leaving.cancelled(), counter.queue.waiting) == (True, 0)
    await counter.open()
    assert staying.done() and counter.served == ["staying"]


async def test_whoever_leaves_as_they_would_be_sent_away_makes_room(counter: Counter) -> None:
    flood = await counter.come("flood", "flood", "flood", "flood")
    ada = asyncio.create_task(counter.queue.run("ada", lambda: "hashed"))
    flood[-1].cancel()  # It has not noticed yet, as Ada comes.
    await settled()
    assert flood[-1].cancelled() and counter.queue.waiting == 4
    await counter.open()
    assert await ada == "hashed"


async def test_no_place_is_lost_to_work_that_fails() -> None:
    queue = HashQueue()

    def fails() -> None:
        raise ValueError

    for _ in range(AT_ONCE * 2):
        with pytest.raises(ValueError):
            await queue.run("a", fails)
    assert queue.waiting == 0 and await queue.run("a", lambda: 1) == 1
