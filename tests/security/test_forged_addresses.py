"""Nobody gets around the limits by what they write into X-Forwarded-For."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chat_app.accounts.attempts import PER_ADDRESS
from tests.parley import StartParley, fleet_settings, person
from tests.security.doors import Door, door_to

TOO_MANY = "too_many_attempts"


@pytest.fixture(params=["embedded", "fleet"])
async def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return fleet_settings(request) if request.param == "fleet" else {}


@pytest.fixture
async def door(start_parley: StartParley, settings: dict[str, str]) -> AsyncIterator[Door]:
    """No proxy is trusted."""
    parley = await start_parley(**settings)
    await person(parley)
    async with door_to(parley) as door:
        yield door


@pytest.fixture
async def behind_a_proxy(start_parley: StartParley, settings: dict[str, str]) -> AsyncIterator[Door]:
    """This machine is a trusted proxy."""
    parley = await start_parley(**settings, trusted_proxies="127.0.0.1, 10.0.0.0/8", signup="open")
    await person(parley)
    async with door_to(parley) as door:
        yield door


async def attempts(door: Door, *said: str) -> list[str]:
    """What attempts end with that claim to come from these addresses, all at once. They cost no hash: the password is
    too short."""
    many = (door.sign_up(f"p{n}@example.org", "short", X_Forwarded_For=hop) for n, hop in enumerate(said))
    return [reply.error for reply in await asyncio.gather(*many)]


async def test_a_forged_address_does_not_remove_the_limits(door: Door) -> None:
    ended = await attempts(door, *(f"203.0.113.{n}" for n in range(PER_ADDRESS + 10)))
    assert set(ended) == {"bad_password", TOO_MANY}
    assert ended.count("bad_password") < PER_ADDRESS + 10


async def test_behind_a_trusted_proxy_everybody_has_their_own_limit(behind_a_proxy: Door) -> None:
    forged = (f"203.0.113.{n}, 198.51.100.1" for n in range(PER_ADDRESS + 10))  # Only the last one is the proxy's.
    assert TOO_MANY in await attempts(behind_a_proxy, *forged)
    assert await attempts(behind_a_proxy, "198.51.100.2", "198.51.100.3, 10.1.1.1") == ["bad_password"] * 2


async def test_a_network_of_ipv6_is_one_caller(behind_a_proxy: Door) -> None:
    assert TOO_MANY in await attempts(behind_a_proxy, *(f"2a00:1:2:3::{n:x}" for n in range(PER_ADDRESS + 10)))
    assert await attempts(behind_a_proxy, "2a00:1:2:4::1") == ["bad_password"]
