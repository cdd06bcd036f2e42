"""The queue: bounds that always hold, and turns that nobody can take from anybody, in virtual time."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import fairqueue
from inference.fairqueue import FairQueue
from inference.protocol import Overloaded, QueuePosition
from tests.inference.queued import Engine, ask, loaded


async def test_one_user_is_served_in_order_within_slots_and_tokens() -> None:
    queue, began, most = FairQueue(3, 100, 50), [], [0, 0]

    async def job(number: int, tokens: int) -> None:
        async with queue.place(ask(), tokens):
            began.append(number)
            most[:] = max(most[0], queue.running), max(most[1], queue.held)
            await asyncio.sleep(0.001 * (number % 4))

    sizes = [30, 60, 10, 100, 5, 5, 5, 99, 2, 40, 40, 40]
    tasks = [asyncio.create_task(job(number, tokens)) for number, tokens in enumerate(sizes)]
    await asyncio.sleep(0)
    tasks[3].cancel()  # The big one at the head of the queue: who stands behind it must not wait for ever.
    tasks[9].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert began == [number for number in range(12) if number not in (3, 9)]
    assert most[0] <= 3
    assert most[1] <= 100
    assert (queue.running, queue.waiting, queue.held) == (0, 0, 0)


async def test_one_that_alone_is_too_big_still_runs_alone() -> None:
    queue = FairQueue(2, 10, 5)
    async with queue.place(ask(), 50):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), queue.place(ask(), 1):
                raise AssertionError
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_job_cancelled_at_the_moment_it_is_let_in_gives_its_place_back() -> None:
    queue = FairQueue(1, 0, 5)
    entered = []

    async def job(number: int) -> None:
        async with queue.place(ask(), 1):
            entered.append(number)

    async with queue.place(ask(), 1):
        first, second = [asyncio.create_task(job(number)) for number in (1, 2)]
        await asyncio.sleep(0)
    first.cancel()  # Its place was granted as we left; it has not run since.
    await asyncio.gather(first, second, return_exceptions=True)
    assert (entered, queue.running) == ([2], 0)


@settings(max_examples=150, deadline=None)
@given(
    slots=st.integers(1, 6),
    kv=st.sampled_from([0, 150, 500]),
    jobs=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 200), st.integers(1, 4)), max_size=30),
    data=st.data(),
)
def test_bounds_hold_and_everyone_is_served(
    slots: int, kv: int, jobs: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    async def run() -> None:
        engine = Engine(FairQueue(slots, kv, 100))
        for user, tokens, weight in jobs:
            engine.add(user, tokens, weight, spends=data.draw(st.integers(0, tokens)))
            await engine.settle()
            if data.draw(st.booleans()):
                await engine.finish()
            if data.draw(st.integers(0, 5)) == 0:
                data.draw(st.sampled_from(engine.tasks)).cancel()
                await engine.settle()
        await engine.drain()
        queue = engine.queue
        assert (queue.running, queue.waiting, queue.held) == (0, 0, 0)
        assert engine.most[0] <= slots
        assert not kv or engine.most[1] <= max(kv, max(tokens for _, tokens, _ in jobs) if jobs else 0)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 5), crowd=st.integers(5, 60), others=st.integers(1, 9), done=st.integers(0, 10))
def test_a_heavy_user_delays_nobody_by_more_than_one_round(slots: int, crowd: int, others: int, done: int) -> None:
    """Whoever comes waits for those of their own kind and for one more job of the heavy user at most, for each slot."""

    async def run() -> None:
        engine = await loaded(FairQueue(slots, 0, 100), [("heavy", 1)] * crowd)
        await engine.finish(done)
        before = len(engine.began)
        for n in range(others):
            engine.add(f"light {n}")
            await engine.settle()
        await engine.drain()
        after = engine.began[before:]
        last = max(at for at, user in enumerate(after) if user.startswith("light"))
        assert after[:last].count("heavy") <= 1

    asyncio.run(run())


async def test_everyone_who_waits_sees_where_they_stand() -> None:
    engine = Engine(FairQueue(1, 0, 100))
    for n, user in enumerate(["a", "a", "a", "a", "b", "c", "b"]):
        engine.add(user, id=f"{user}{n}")
        await engine.settle()
    foretold = list(engine.queue.positions())
    assert [at.position for at in engine.queue.positions().values()] == [1, 2, 3, 4, 5, 6]
    etas = [at.eta_s for at in engine.queue.positions().values()]
    assert etas == sorted(etas) and etas[0] > 0
    await engine.drain()
    assert [name[0] for name in foretold] == engine.began[1:]
    assert engine.queue.positions() == {}


async def test_a_full_queue_says_when_to_come_again() -> None:
    queue = FairQueue(1, 0, 0)
    async with queue.place(ask(), 1):
        with pytest.raises(Overloaded) as caught:
            async with queue.place(ask(), 1):
                pass
    assert caught.value.retry_after >= 1


async def test_a_full_queue_is_not_closed_to_who_has_nothing_in_it() -> None:
    engine = await loaded(FairQueue(1, 0, 3), [("heavy", 1)] * 4)
    engine.add("light")
    await engine.settle()
    refused = [task for task in engine.tasks if task.done()]
    assert refused == [engine.tasks[3]], "not the heavy user's last one"
    assert isinstance(refused[0].exception(), Overloaded)
    engine.add("heavy")
    await engine.settle()
    assert isinstance(engine.tasks[-1].exception(), Overloaded)
    await engine.drain()
    assert engine.began == ["heavy", "light", "heavy", "heavy"]


async def test_a_turn_that_does_not_come_in_time_is_refused() -> None:
    queue = FairQueue(1, 0, 5)
    async with queue.place(ask("a"), 1):
        for patience in (700, 1):  # One that is waited for, and one of which it is plain that it cannot be met.
            with pytest.raises(Overloaded) as caught:
                async with queue.place(ask("b", max_wait_ms=patience), 1):
                    raise AssertionError
            assert caught.value.retry_after >= 1
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_job_that_fills_the_tokens_exactly_runs() -> None:
    engine = Engine(FairQueue(3, 100, 5))
    engine.add("a", 60)
    engine.add("b", 40)
    engine.add("c", 1)
    await engine.settle()
    assert (engine.began, engine.queue.held, engine.queue.waiting) == (["a", "b"], 100, 1)
    await engine.drain()


async def test_who_stands_behind_a_big_one_that_leaves_is_let_in_at_once() -> None:
    engine = Engine(FairQueue(3, 100, 5))
    for user, tokens in (("a", 60), ("b", 100), ("c", 10)):
        engine.add(user, tokens)
        await engine.settle()
    assert engine.began == ["a"], "a small one slipped past"
    engine.tasks[1].cancel()
    await engine.settle()
    assert engine.began == ["a", "c"]
    await engine.drain()


@pytest.mark.parametrize(
    ("there", "comes", "stays"),
    [
        pytest.param(("a", 1), ("b", 1), True, id="as many as they have"),
        pytest.param(("a", 1), ("b", 4), False, id="fewer for their weight"),
        pytest.param(("a", 4), ("b", 1), True, id="more for their weight"),
    ],
)
async def test_a_full_queue_makes_room_only_for_who_has_less_in_it(
    there: tuple[str, int], comes: tuple[str, int], stays: bool
) -> None:
    engine = Engine(FairQueue(1, 0, 1 if there[1] == 1 else 2))
    engine.add("running")
    await engine.settle()
    for _ in range(1 if there[1] == 1 else 2):
        engine.add(there[0], weight=there[1])
        await engine.settle()
    engine.add(comes[0], weight=comes[1])
    await engine.settle()
    refused = [task for task in engine.tasks if task.done()]
    assert refused == [engine.tasks[-1 if stays else -2]]
    assert isinstance(refused[0].exception(), Overloaded)
    await engine.drain()


async def test_the_order_that_is_foretold_heeds_weights() -> None:
    engine = Engine(FairQueue(1, 0, 100))
    engine.add("x")
    await engine.settle()
    for n in range(8):
        user, weight = ("a", 4) if n % 2 else ("b", 1)
        engine.add(user, weight=weight, id=f"{user}{n}")
        await engine.settle()
    foretold = [name[0] for name in engine.queue.positions()]
    await engine.drain()
    assert engine.began == ["x", *foretold]
    assert foretold[:4].count("a") == 3


async def test_how_long_it_takes_goes_by_what_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(fairqueue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    engine = Engine(FairQueue(2, 0, 100))
    for user in "abc":
        engine.add(user, id=user)
    await engine.settle()
    assert engine.queue.positions() == {"c": QueuePosition(1, 0.5)}, "a second is assumed before anything is known"
    now[0] = 10.0
    assert engine.queue.positions() == {"c": QueuePosition(1, 5.0)}
    assert engine.queue.retry_after == 10.0
    now[0] = 10.33
    assert engine.queue.positions() == {"c": QueuePosition(1, 5.2)}, "a tenth of a second is enough to know"
    assert engine.queue.retry_after == 10.3
    await engine.finish(3)
    assert engine.queue._job_s > 2, "what they took is not learnt"
    await engine.drain()


async def test_a_turn_that_is_foreseen_not_to_come_in_time_is_refused_at_once() -> None:
    queue = FairQueue(1, 0, 5)
    async with queue.place(ask("a"), 1):
        began = time.monotonic()
        with pytest.raises(Overloaded):
            async with queue.place(ask("b", max_wait_ms=450), 1):
                raise AssertionError
        assert time.monotonic() - began < 0.3
    assert (queue.running, queue.waiting) == (0, 0)
