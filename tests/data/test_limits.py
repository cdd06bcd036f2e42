"""One suite for the limits in memory and in Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from chat_app.data.limits.base import Limits, LimitsUnavailable
from chat_app.data.limits.memory import MemoryLimits
from chat_app.data.limits.valkey import ValkeyLimits
from tests.servers import Valkey

LONG = 60_000


@pytest.fixture(params=["memory", "valkey"])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[Limits]:
    url = request.getfixturevalue("redis_url") if request.param == "valkey" else ""
    limits: Limits = ValkeyLimits(url) if url else MemoryLimits()
    await limits.start()
    yield limits
    await limits.close()


async def test_a_burst_then_the_rate(limits: Limits) -> None:
    assert [await limits.hit("k", 60, burst=3) for _ in range(3)] == [0, 0, 0]
    wait = await limits.hit("k", 60, burst=3)
    assert 0 < wait <= 1_000  # 60 a minute is one a second
    assert 0 < await limits.hit("k", 60, burst=3) <= wait  # a refused event is not counted
    await asyncio.sleep((wait + 10) / 1_000)
    assert await limits.hit("k", 60, burst=3) == 0
    assert await limits.hit("k", 60, burst=3) > 0


async def test_the_burst_is_a_minutes_worth_by_default(limits: Limits) -> None:
    answers = [await limits.hit("k", 5) for _ in range(6)]
    assert answers[:5] == [0] * 5
    assert 11_000 < answers[5] <= 12_000


async def test_keys_are_counted_apart(limits: Limits) -> None:
    assert await limits.hit("a", 1) == 0
    assert await limits.hit("a", 1) > 0
    assert await limits.hit("b", 1) == 0


async def test_nothing_is_let_through_beyond_the_limit(limits: Limits) -> None:
    answers = await asyncio.gather(*(limits.hit("k", 40) for _ in range(100)))
    assert answers.count(0) == 40


async def test_no_rate_at_all(limits: Limits) -> None:
    assert await limits.hit("k", 0) > 0
    assert await limits.hit("j", 60, burst=0) == 0  # no burst is still one at a time
    assert await limits.hit("j", 60, burst=0) > 0


async def test_places(limits: Limits) -> None:
    assert await limits.enter("k", "a", 2, LONG)
    assert await limits.enter("k", "b", 2, LONG)
    assert not await limits.enter("k", "c", 2, LONG)
    assert await limits.enter("k", "a", 2, LONG)  # only renews
    assert await limits.enter("k", "a", 1, LONG)  # also after the limit was lowered
    assert await limits.enter("other", "c", 2, LONG)
    await limits.leave("k", "c")  # was not in
    assert not await limits.enter("k", "c", 2, LONG)
    await limits.leave("k", "a")
    assert await limits.enter("k", "c", 2, LONG)
    assert not await limits.enter("nobody", "a", 0, LONG)


async def test_a_place_frees_itself(limits: Limits) -> None:
    assert await limits.enter("k", "short", 2, 600)
    assert await limits.enter("k", "long", 2, LONG)
    await asyncio.sleep(0.1)
    assert not await limits.enter("k", "c", 2, LONG)
    await asyncio.sleep(0.6)
    assert await limits.enter("k", "c", 2, LONG)
    assert not await limits.enter("k", "d", 2, LONG)


async def test_renewing_keeps_a_place(limits: Limits) -> None:
    for _ in range(4):
        assert await limits.enter("k", "a", 1, 900)
        await asyncio.sleep(0.3)
    assert not await limits.enter("k", "b", 1, LONG)


async def test_what_runs_already_gets_a_place_beyond_the_limit(limits: Limits) -> None:
    assert await limits.enter("k", "a", 1, LONG)
    assert await limits.enter("k", "taken over", None, LONG)
    assert not await limits.enter("k", "c", 2, LONG)
    await limits.leave("k", "a")
    assert not await limits.enter("k", "c", 1, LONG)  # it counts
    await limits.leave("k", "taken over")
    assert await limits.enter("k", "c", 1, LONG)
    assert await limits.enter("empty", "a", None, 500)
    assert not await limits.enter("empty", "b", 1, LONG)
    await asyncio.sleep(0.55)
    assert await limits.enter("empty", "b", 1, LONG)  # it frees itself like any other


async def test_many_places_are_renewed_in_one_call(limits: Limits) -> None:
    assert await limits.renew([], LONG) == set()
    for place in (("k", "a"), ("k", "b"), ("j", "a")):
        assert await limits.enter(*place, 3, 600)
    for _ in range(3):
        await asyncio.sleep(0.3)
        assert await limits.renew([("k", "a"), ("j", "a")], 600) == {("k", "a"), ("j", "a")}
    assert not await limits.enter("k", "c", 1, LONG)
    assert await limits.enter("k", "c", 2, LONG)  # b has run out
    assert not await limits.enter("j", "c", 1, LONG)


async def test_renewing_enters_nobody(limits: Limits) -> None:
    """A heartbeat that overtakes an end must not occupy the place again."""
    assert await limits.enter("k", "a", 1, LONG)
    await limits.leave("k", "a")
    assert await limits.renew([("k", "a"), ("k", "never"), ("nowhere", "a")], LONG) == set()
    assert await limits.enter("k", "b", 1, LONG)
    assert await limits.enter("late", "a", 1, 100)
    assert await limits.enter("late", "long", 2, LONG)
    await asyncio.sleep(0.15)
    assert await limits.renew([("late", "a"), ("late", "long")], LONG) == {("late", "long")}
    assert await limits.enter("late", "b", 2, LONG)


async def test_a_renewed_place_keeps_its_neighbours(limits: Limits) -> None:
    assert await limits.enter("k", "long", 2, LONG)
    assert await limits.enter("k", "short", 2, 300)
    assert await limits.renew([("k", "short")], 400) == {("k", "short")}
    await asyncio.sleep(0.5)
    assert not await limits.enter("k", "c", 1, LONG)  # long is in still


async def test_no_more_than_the_places_at_once(limits: Limits) -> None:
    answers = await asyncio.gather(*(limits.enter("k", f"m{n}", 7, LONG) for n in range(50)))
    assert sum(answers) == 7


async def test_memory_is_bounded() -> None:
    limits = MemoryLimits(most=100)
    for n in range(1_000):
        await limits.hit(f"k{n}", 1)
        await limits.enter(f"k{n}", "m", 1, LONG)
        await limits.enter("one", f"m{n}", 5, 0)
    assert len(limits._arrivals) <= 100
    assert len(limits._places) <= 101
    assert await limits.hit("k999", 1) > 0  # the newest are still known
    assert not await limits.enter("k999", "other", 1, LONG)


async def test_memory_forgets_what_has_run_out() -> None:
    limits = MemoryLimits()
    for n in range(100):
        await limits.hit(f"k{n}", 60_000, burst=1)  # each is over after a millisecond
        await limits.enter(f"k{n}", "m", 1, 1)
    await asyncio.sleep(0.01)
    for _ in range(100):
        await limits.hit("k", 60)
        await limits.enter("k", "m", 1, LONG)
    assert len(limits._arrivals) == 1
    assert len(limits._places) == 1


async def test_replicas_share_one_count(redis_url: str) -> None:
    replicas = [ValkeyLimits(redis_url) for _ in range(4)]
    hits = await asyncio.gather(*(replicas[n % 4].hit("k", 40) for n in range(100)))
    assert hits.count(0) == 40
    places = await asyncio.gather(*(replicas[n % 4].enter("k", f"m{n}", 7, LONG) for n in range(50)))
    assert sum(places) == 7
    for replica in replicas:
        await replica.close()


async def test_everything_in_valkey_expires(redis_url: str) -> None:
    limits = ValkeyLimits(redis_url)
    await limits.hit("k", 60)
    await limits.enter("k", "long", 3, LONG)
    await limits.enter("k", "short", 3, 100)
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        keys = await server.keys()
        assert len(keys) == 2
        for key in keys:
            assert 0 < await server.pttl(key) <= LONG
        assert await server.pttl("parley:places:k") > 100  # as long as the longest
    await limits.close()


async def test_server_restart(own_valkey: Valkey) -> None:
    limits = ValkeyLimits(own_valkey.url)
    await limits.start()
    assert await limits.enter("k", "a", 1, LONG)
    await asyncio.to_thread(own_valkey.stop)
    place = ("k", "a")
    for attempt in (limits.hit("k", 1), limits.enter(*place, 1, LONG), limits.leave(*place), limits.renew([place], 1)):
        with pytest.raises(LimitsUnavailable):
            await attempt
    await asyncio.to_thread(own_valkey.start)
    assert await limits.hit("k", 1) == 0
    assert await limits.enter("k", "b", 1, LONG)
    await limits.close()
    with pytest.raises(LimitsUnavailable):
        await ValkeyLimits("redis://127.0.0.1:1").start()
