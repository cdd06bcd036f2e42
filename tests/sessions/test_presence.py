"""Presence: who is called dead, and when that is in doubt."""

import asyncio
from types import SimpleNamespace

import pytest

from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.sessions import presence
from chat_app.sessions.presence import Pause, Presence
from tests.sessions.processes import Switched

TTL_MS = 400


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock of these processes shows, in seconds."""
    now = [1_000.0]
    monkeypatch.setattr(presence, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(("passed_s", "over"), [(0, False), (4.75, False), (5, True), (3_600, True), (-0.25, True)])
def test_a_pause_is_over_when_its_time_has_passed_or_the_clock_was_set_back(
    clock: list[float], passed_s: float, over: bool
) -> None:
    pause = Pause.of(5)
    clock[0] += passed_s
    assert pause.over == over


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


@pytest.mark.parametrize(("what", "call"), [("renew", "held"), ("renew", "hold"), ("dead", "held")])
async def test_who_did_not_reach_the_leases_gives_the_others_one_time_to_live_to_come_back(
    leases: Leases, clock: list[float], monkeypatch: pytest.MonkeyPatch, what: str, call: str
) -> None:
    """Whichever call failed: a store may be there to read and not to write, as a replica of it is."""
    wire = Switched(leases)
    bob = Presence(wire, "bob", 60_000)

    async def away(*_: object) -> None:
        raise LeasesUnavailable("the leases are away")

    await bob.renew()
    with monkeypatch.context() as patch:
        patch.setattr(wire, call, away)
        with pytest.raises(LeasesUnavailable):
            await (bob.renew() if what == "renew" else bob.dead(["ann"]))
    assert await bob.dead(["ann"]) == []  # until a heartbeat has come through
    await bob.renew()
    clock[0] += 59.5
    assert await bob.dead(["ann"]) == []
    await bob.renew()  # does not begin the time anew
    clock[0] += 1
    assert await bob.dead(["ann"]) == ["ann"]


async def test_whose_own_lease_is_gone_gives_the_others_one_time_to_live_to_come_back(
    leases: Leases, clock: list[float]
) -> None:
    bob = Presence(leases, "bob", 60_000)
    assert await bob.dead(["ann"]) == ["ann"], "whoever has no lease yet cannot miss it"
    await bob.renew()
    await leases.release("process:bob", "bob")
    assert await bob.dead(["ann"]) == []
    await bob.renew()
    clock[0] += 59.5
    assert await bob.dead(["ann"]) == []
    clock[0] += 1
    assert await bob.dead(["ann"]) == ["ann"]


async def test_who_leaves_while_the_leases_are_away_leaves_all_the_same(leases: Leases) -> None:
    wire = Switched(leases)
    bob = Presence(wire, "bob", 60_000)
    await bob.renew()
    wire.cut = True
    await bob.release()
    wire.cut = False
    assert await leases.held(["process:bob"]) == {"process:bob"}
    await bob.release()
    assert await leases.held(["process:bob"]) == set()
