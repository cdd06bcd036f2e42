"""One suite for the leases in memory and in Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from pydantic import SecretStr

from chat_app.data.leases import open_leases
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.leases.memory import MemoryLeases
from chat_app.data.leases.valkey import ValkeyLeases
from chat_app.settings import Settings
from tests.servers import Valkey

LONG = 60_000


@pytest.fixture(params=["memory", "valkey"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    leases: Leases = ValkeyLeases(request.getfixturevalue("redis_url")) if request.param == "valkey" else MemoryLeases()
    await leases.start()
    yield leases
    await leases.close()


async def test_one_owner_at_a_time(leases: Leases) -> None:
    assert await leases.hold("g", "ann", LONG)
    assert not await leases.hold("g", "bob", LONG)
    assert await leases.hold("other", "bob", LONG)
    assert await leases.held(["g", "other", "third"]) == {"g", "other"}
    await leases.release("g", "ann")
    assert await leases.held(["g", "other"]) == {"other"}
    assert await leases.hold("g", "bob", LONG)
    assert not await leases.hold("g", "ann", LONG)


async def test_only_its_owner_can_release_a_lease(leases: Leases) -> None:
    assert await leases.hold("g", "ann", LONG)
    await leases.release("g", "bob")
    await leases.release("unknown", "bob")
    assert await leases.held(["g"]) == {"g"}
    assert not await leases.hold("g", "bob", LONG)


async def test_a_lease_that_is_not_renewed_runs_out(leases: Leases) -> None:
    assert await leases.hold("g", "ann", 500)
    assert not await leases.hold("g", "bob", LONG)
    await asyncio.sleep(0.55)
    assert await leases.held(["g"]) == set()
    assert await leases.hold("g", "bob", LONG)
    assert not await leases.hold("g", "ann", LONG)  # too late


async def test_renewing_lengthens_a_lease(leases: Leases) -> None:
    for _ in range(4):
        assert await leases.hold("g", "ann", 900)
        await asyncio.sleep(0.3)
    assert await leases.held(["g"]) == {"g"}
    assert not await leases.hold("g", "bob", LONG)


async def test_renewing_can_also_shorten_a_lease(leases: Leases) -> None:
    assert await leases.hold("g", "ann", LONG)
    assert await leases.hold("g", "ann", 100)
    await asyncio.sleep(0.15)
    assert await leases.held(["g"]) == set()


async def test_one_of_many_at_once_gets_it(leases: Leases) -> None:
    took = await asyncio.gather(*(leases.hold("g", f"owner{n}", LONG) for n in range(40)))
    assert sum(took) == 1


async def test_nothing_asked_is_nothing_held(leases: Leases) -> None:
    assert await leases.held([]) == set()
    assert await leases.held(name for name in ("a",)) == set()


async def test_a_clock_that_is_set_back_makes_no_lease_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, now = MemoryLeases(), 100_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert await leases.hold("g", "ann", LONG)
    now -= 3600
    assert await leases.held(["g"]) == set()
    assert await leases.hold("g", "bob", LONG)


async def test_what_has_run_out_takes_no_memory() -> None:
    leases = MemoryLeases()
    for n in range(100):
        await leases.hold(f"g{n}", "ann", 1)
        await asyncio.sleep(0.001)
    assert len(leases._leases) < 50


def test_the_settings_choose_the_store() -> None:
    assert isinstance(open_leases(Settings()), MemoryLeases)
    assert isinstance(open_leases(Settings(redis_url=SecretStr("redis://127.0.0.1:1"))), ValkeyLeases)


async def test_leases_in_valkey_outlive_their_process_and_expire(redis_url: str) -> None:
    ann, bob = ValkeyLeases(redis_url), ValkeyLeases(redis_url)
    await ann.hold("g", "ann", LONG)
    await ann.close()
    assert not await bob.hold("g", "bob", LONG)
    await bob.close()
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        assert 0 < await server.pttl("parley:lease:g") <= LONG


async def test_server_restart(own_valkey: Valkey) -> None:
    leases = ValkeyLeases(own_valkey.url)
    await leases.start()
    assert await leases.hold("g", "ann", LONG)
    await asyncio.to_thread(own_valkey.stop)
    for attempt in (leases.hold("g", "ann", LONG), leases.release("g", "ann"), leases.held(["g"])):
        with pytest.raises(LeasesUnavailable):
            await attempt
    await asyncio.to_thread(own_valkey.start)
    assert await leases.held(["g"]) == set()  # the server forgot it
    assert await leases.hold("g", "bob", LONG)
    await leases.close()


async def test_no_server() -> None:
    with pytest.raises(LeasesUnavailable):
        await ValkeyLeases("redis://127.0.0.1:1").start()
