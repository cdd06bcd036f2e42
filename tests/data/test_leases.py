"""One suite for the leases in SQLite and in Valkey."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis.asyncio

from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.leases.sqlite import SqliteLeases
from chat_app.data.leases.valkey import ValkeyLeases
from tests.servers import Valkey

LONG = 60_000


@pytest.fixture(params=["sqlite", "valkey"])
async def new_leases(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[Callable[[], Awaitable[Leases]]]:
    url = request.getfixturevalue("redis_url") if request.param == "valkey" else ""
    made: list[Leases] = []

    async def make() -> Leases:
        leases: Leases = ValkeyLeases(url) if url else SqliteLeases(home / "leases.db")
        await leases.start()
        made.append(leases)
        return leases

    yield make
    for leases in made:
        await leases.close()


@pytest.fixture
async def leases(new_leases: Callable[[], Awaitable[Leases]]) -> Leases:
    return await new_leases()


async def test_one_owner_at_a_time(leases: Leases) -> None:
    first = await leases.acquire("g", "ann", LONG)
    assert first is not None
    assert await leases.acquire("g", "bob", LONG) is None
    assert await leases.acquire("other", "bob", LONG) is not None
    await leases.release("g", "bob")  # is not his
    assert await leases.acquire("g", "bob", LONG) is None
    await leases.release("g", "ann")
    second = await leases.acquire("g", "bob", LONG)
    assert second is not None
    assert second > first


async def test_the_owner_may_take_it_again_under_a_higher_number(leases: Leases) -> None:
    numbers = [await leases.acquire("g", "ann", LONG) for _ in range(5)]
    assert all(number is not None for number in numbers)
    assert sorted(set(numbers)) == numbers  # type: ignore[type-var]


async def test_floor(leases: Leases) -> None:
    assert await leases.acquire("g", "ann", LONG, floor=1_000_000_000_000) == 1_000_000_000_001
    number = await leases.acquire("g", "ann", LONG, floor=5)
    assert number is not None
    assert number > 1_000_000_000_001


async def test_runs_out(leases: Leases) -> None:
    first = await leases.acquire("g", "ann", 500)
    assert await leases.acquire("g", "bob", LONG) is None
    await asyncio.sleep(0.55)
    assert await leases.held(["g"]) == set()
    assert await leases.renew(["g"], "ann", LONG) == set()  # too late
    second = await leases.acquire("g", "bob", LONG)
    assert first is not None
    assert second is not None
    assert second > first


async def test_renew_lengthens_all_that_are_still_held(leases: Leases) -> None:
    for name in ("a", "b", "gone"):
        await leases.acquire(name, "ann", 1_500)
    await leases.acquire("bobs", "bob", LONG)
    await leases.release("gone", "ann")
    assert await leases.renew(["a", "gone", "bobs", "never"], "ann", LONG) == {"a"}
    await asyncio.sleep(1.6)
    assert await leases.held(["a", "b", "gone", "bobs", "never"]) == {"a", "bobs"}
    assert await leases.renew([], "ann", LONG) == set()
    assert await leases.held([]) == set()


async def test_one_of_many_at_once_gets_it(new_leases: Callable[[], Awaitable[Leases]]) -> None:
    stores = [await new_leases()]
    if isinstance(stores[0], ValkeyLeases):
        stores += [await new_leases(), await new_leases()]
    answers = await asyncio.gather(*(stores[n % len(stores)].acquire("g", f"owner{n}", LONG) for n in range(40)))
    assert sum(answer is not None for answer in answers) == 1


async def test_numbers_rise_across_a_restart(new_leases: Callable[[], Awaitable[Leases]]) -> None:
    before = await new_leases()
    first = await before.acquire("g", "ann", LONG)
    await before.close()
    after = await new_leases()
    second = await after.acquire("h", "bob", LONG)
    assert first is not None
    assert second is not None
    assert second > first


async def test_embedded_leases_die_with_their_process(home: Path) -> None:
    for owner in ("ann", "bob"):
        leases = SqliteLeases(home / "leases.db")
        await leases.start()
        assert await leases.held(["g"]) == set()
        assert await leases.acquire("g", owner, LONG) is not None
        await leases.close()


async def test_leases_in_valkey_outlive_their_process(redis_url: str) -> None:
    ann, bob = ValkeyLeases(redis_url), ValkeyLeases(redis_url)
    await ann.acquire("g", "ann", LONG)
    await ann.close()
    assert await bob.acquire("g", "bob", LONG) is None
    await bob.close()


async def test_server_restart(own_valkey: Valkey) -> None:
    leases = ValkeyLeases(own_valkey.url)
    await leases.start()
    first = await leases.acquire("g", "ann", LONG)
    assert first is not None
    await asyncio.to_thread(own_valkey.stop)
    for attempt in (leases.acquire("g", "ann", LONG), leases.renew(["g"], "ann", LONG), leases.held(["g"])):
        with pytest.raises(LeasesUnavailable):
            await attempt
    await asyncio.to_thread(own_valkey.start)
    assert await leases.renew(["g"], "ann", LONG) == set()  # the server forgot it
    assert await leases.acquire("g", "bob", LONG, floor=first) == first + 1  # the caller did not
    await leases.close()


async def test_not_open(home: Path) -> None:
    with pytest.raises(LeasesUnavailable):
        await SqliteLeases(home / "leases.db").acquire("g", "ann", LONG)
    with pytest.raises(LeasesUnavailable):
        await ValkeyLeases("redis://127.0.0.1:1").start()
    (home / "bad.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(LeasesUnavailable):
        await SqliteLeases(home / "bad.db").start()


async def test_leases_in_valkey_expire(redis_url: str) -> None:
    leases = ValkeyLeases(redis_url)
    await leases.acquire("g", "ann", LONG)
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        assert 0 < await server.pttl("parley:lease:g") <= LONG
    await leases.close()
