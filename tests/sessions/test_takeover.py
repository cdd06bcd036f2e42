"""Takeovers: several processes over one database, of which one dies, sleeps, or cannot reach the leases."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database
from chat_app.data.leases.base import Leases
from chat_app.sessions import ownership as module
from chat_app.sessions import presence
from chat_app.sessions.generations import GenerationRow, Generations
from tests.sessions.processes import TTL_S, Start, until

pytestmark = pytest.mark.usefixtures("logged")


async def test_the_jobs_of_a_dead_process_go_to_the_other(process: Start, db: Database) -> None:
    ann, bob = await process(), await process()
    rows = [await ann.begin(db) for _ in range(5)]
    for row in rows:
        ann.ownership.run(row)
    await asyncio.sleep(TTL_S * 2)
    assert not bob.worked  # ann lives
    await ann.die()
    died = time.monotonic()
    await until(lambda: len(bob.worked) == 5)
    assert time.monotonic() - died > TTL_S / 2  # not before her lease ran out
    assert bob.ids == {row.id for row in rows}
    assert {(row.fence, row.attempts, row.owner) for row in bob.worked} == {(2, 2, bob.ownership.owner)}
    bob.hold.set()
    await until(lambda: bob.ownership.running == 0)
    assert await bob.generations.owners() == []


async def test_what_a_dead_process_leaves_is_spread(
    process: Start, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLAIM", 3)
    ann, bob, cat = await process(), await process(), await process()
    rows = [await ann.begin(db) for _ in range(24)]
    await ann.die()
    await until(lambda: len(bob.worked) + len(cat.worked) == 24)
    await asyncio.sleep(0.2)
    assert bob.ids | cat.ids == {row.id for row in rows} and not bob.ids & cat.ids
    assert len(bob.worked) >= 3 and len(cat.worked) >= 3


async def test_no_more_than_the_limit_is_claimed_in_one_look(
    process: Start, generations: Generations, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLAIM", 3)
    for dead in ("ann", "cat"):
        for n in range(2):
            row = GenerationRow(f"{dead}{n}", "t", "ada", "free", "2026-11", n, owner=dead)
            await db.batch(generations.create(row))
    looks: list[int] = []
    claim = generations.claim

    async def noted(dead: str, me: str, most: int, version: int) -> list[GenerationRow]:
        rows = await claim(dead, me, most, version)
        looks.append(len(rows))
        return rows

    monkeypatch.setattr(generations, "claim", noted)
    bob = await process()
    await until(lambda: len(bob.worked) == 4)
    assert looks == [2, 1, 1]  # three in the first look, the last one in the second


async def test_shutting_down_lets_the_other_go_on_at_once(process: Start, db: Database) -> None:
    ann, bob = await process(), await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: ann.ids == {row.id})
    await ann.ownership.close()
    assert ann.cancelled == [row.id]
    assert not await bob.leases.held([f"process:{ann.ownership.owner}"])
    await until(lambda: bob.ids == {row.id})
    await ann.ownership.close()  # again does no harm
    ann.ownership.run(row)  # nor does a caller that comes too late
    await asyncio.sleep(0.05)
    assert ann.ownership.running == 0


async def test_jobs_of_a_newer_release_are_left_alone(process: Start, db: Database) -> None:
    old = await process(version=1)
    dead = await process(version=2)
    row = await dead.begin(db, job_version=2)
    await dead.die()
    await asyncio.sleep(TTL_S * 2)
    assert not old.worked
    new = await process(version=2)
    await until(lambda: new.ids == {row.id})


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_laptop_that_slept_keeps_its_jobs_but_those_that_were_taken(
    process: Start, db: Database, leases: Leases, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    ann = await process()
    rows = [await ann.begin(db) for _ in range(3)]
    for row in rows:
        ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 3)
    # Asleep: no heartbeat and no watch for longer than the lease; then every clock stands elsewhere.
    await cancelled(ann.ownership._watching, ann.ownership._beating, ann.ownership._keeping)
    await asyncio.sleep(TTL_S * 1.2)
    assert await leases.held([f"process:{ann.ownership.owner}"]) == set()
    [taken] = await ann.generations.claim(ann.ownership.owner, "bob", 1, 1)
    await leases.hold("process:bob", "bob", 60_000)
    clocks = SimpleNamespace(monotonic=lambda: time.monotonic() + jump_s)
    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(presence, "time", clocks)
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() + int(jump_s * 1e9))
    await ann.ownership.start(ann._work)
    await until(lambda: ann.cancelled == [taken.id])
    await asyncio.sleep(TTL_S)
    assert ann.cancelled == [taken.id] and len(ann.worked) == 3
    ann.hold.set()
    await until(lambda: ann.ownership.running == 0)
    assert sorted([await ann.generations.status(row.id) for row in rows]) == ["done", "done", "queued"]  # type: ignore[type-var]


async def test_while_the_leases_are_away_nothing_is_taken_over_and_nothing_lost(process: Start, db: Database) -> None:
    ann, bob = await process(), await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    ann.leases.cut = bob.leases.cut = True
    await asyncio.sleep(TTL_S * 2)
    assert not bob.worked and ann.ownership.running == 1
    bob.leases.cut = False  # bob is the first to reach them: ann has not had her chance
    await asyncio.sleep(TTL_S * 0.7)
    assert not bob.worked
    ann.leases.cut = False
    await asyncio.sleep(TTL_S * 2)
    assert not bob.worked and not ann.cancelled
    await ann.die()
    await until(lambda: bob.ids == {row.id})


async def test_whoever_does_not_come_back_with_the_leases_is_dead(process: Start, db: Database) -> None:
    ann, bob = await process(), await process()
    row = await ann.begin(db)
    ann.leases.cut = bob.leases.cut = True
    await asyncio.sleep(TTL_S)
    await ann.die()
    bob.leases.cut = False
    at = time.monotonic()
    await until(lambda: bob.ids == {row.id})
    assert time.monotonic() - at > TTL_S * 0.9


async def test_leases_that_forgot_everything_kill_nobody(process: Start, db: Database, leases: Leases) -> None:
    ann, bob = await process(), await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    for _ in range(5):
        for one in (ann, bob):
            await leases.release(f"process:{one.ownership.owner}", one.ownership.owner)
        await asyncio.sleep(TTL_S / 2)
        assert not bob.worked
    assert not ann.cancelled


async def test_a_job_that_was_handed_back_goes_to_another(process: Start, db: Database) -> None:
    ann = await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    await ann.ownership.hand_back(row)
    await until(lambda: ann.cancelled == [row.id])  # by the next heartbeat at the latest
    await asyncio.sleep(0.3)
    assert len(ann.worked) == 1
    bob = await process()
    await until(lambda: bob.ids == {row.id})
    assert (bob.worked[0].fence, bob.worked[0].attempts) == (2, 1)  # to hand it back was no attempt


async def test_a_job_that_was_handed_back_and_that_nobody_else_took_is_tried_again(
    process: Start, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps its hour is over, and it is to be given up."""
    monkeypatch.setattr(module, "HANDED_BACK_S", 0.5)
    ann = await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    handed_back = time.monotonic()
    await ann.ownership.hand_back(row)
    await until(lambda: len(ann.worked) == 2)
    assert ann.began[1] - handed_back >= module.HANDED_BACK_S
    assert (ann.worked[1].fence, ann.worked[1].attempts) == (2, 1)
