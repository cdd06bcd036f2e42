"""Presence: who is called dead, and when that is in doubt."""

import asyncio

import pytest

from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.sessions.presence import Presence
from tests.sessions.processes import Switched

TTL_MS = 400


async def test_until_our_own_heartbeat_has_come_through_again_nobody_is_dead(leases: Leases) -> None:
    """The leases were away so briefly that ours outlived it, but another's did not."""
    wire = Switched(leases)
    ann, bob = Presence(leases, "ann", TTL_MS), Presence(wire, "bob", 60_000)
    await ann.renew()
    await bob.renew()
    assert await bob.dead(["ann", "bob"]) == []
    wire.cut = True
    with pytest.raises(LeasesUnavailable):
        await bob.renew()
    await leases.release("process:ann", "ann")
    wire.cut = False
    assert await bob.dead(["ann", "bob"]) == []
    await bob.renew()
    assert await bob.dead(["ann", "bob"]) == []  # she has one time to live to come back


async def test_whoever_holds_no_lease_is_dead(leases: Leases) -> None:
    ann, bob = Presence(leases, "ann", TTL_MS), Presence(leases, "bob", 60_000)
    await ann.renew()
    await bob.renew()
    assert await bob.dead(["ann", "bob", "cat"]) == ["cat"]
    await asyncio.sleep(TTL_MS / 1000 + 0.1)
    assert await bob.dead(["ann", "bob", "cat"]) == ["ann", "cat"]
