"""Ownership: the tasks of one process, tried again, replaced, dropped and never doubled."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database, DatabaseUnavailable, OutcomeUnknown, Statement
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.log.base import LogUnavailable, StaleOwner
from chat_app.sessions import ownership as module
from chat_app.sessions import presence
from chat_app.sessions.generations import GenerationRow, Generations, Outcome
from tests.sessions.processes import TTL_S, Process, Start, new_row, until

pytestmark = pytest.mark.usefixtures("logged")


async def test_a_task_that_raises_is_tried_again_with_a_growing_pause(
    process: Start, db: Database, logged: list[Any]
) -> None:
    ann = await process()
    ann.errors = [RuntimeError("a"), ValueError("b"), StaleOwner(), OSError("d")]
    ann.ownership.run(await ann.begin(db))
    await until(lambda: len(ann.worked) == 5)
    assert [row.attempts for row in ann.worked] == [1, 2, 3, 4, 5]
    assert [row.fence for row in ann.worked] == [1, 2, 3, 4, 5]
    pauses = [later - earlier for earlier, later in pairwise(ann.began)]
    assert all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses))
    assert pauses[0] < pauses[3]  # by 0.7 s; a busy machine takes less than that
    levels = [entry["log_level"] for entry in logged if "left" in entry["event"] or "interrupted" in entry["event"]]
    assert levels == ["error", "error", "info", "error"]  # a stale owner ends quietly
    ann.hold.set()
    await until(lambda: ann.ownership.running == 0)
    await until(lambda: not ann.ownership._pauses)  # nothing is kept of a job that has ended


async def test_an_attempt_that_ended_because_a_store_was_away_does_not_count(process: Start, db: Database) -> None:
    ann = await process()
    ann.errors = [LogUnavailable("a"), DatabaseUnavailable("b"), LeasesUnavailable("c"), OSError("d"), OutcomeUnknown()]
    ann.ownership.run(await ann.begin(db))
    await until(lambda: len(ann.worked) == 6)
    assert [row.attempts for row in ann.worked] == [1, 2, 2, 2, 3, 3]  # the first one says that there was one
    assert [row.fence for row in ann.worked] == [1, 2, 3, 4, 5, 6]
    pauses = [later - earlier for earlier, later in pairwise(ann.began)]
    assert all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses))
    ann.hold.set()
    await until(lambda: ann.ownership.running == 0)
    await until(lambda: not ann.ownership._pauses and not ann.ownership._uncounted)


async def test_the_pause_grows_to_a_bound(process: Start, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAUSE_S", 0.15)
    ann = await process()
    ann.errors = [RuntimeError("again")] * 8
    ann.ownership.run(await ann.begin(db))
    await until(lambda: len(ann.worked) == 9)
    assert max(later - earlier for earlier, later in pairwise(ann.began)) < 0.1 * 2**4


async def test_a_job_whose_task_never_began_is_picked_up_by_its_own_process(process: Start, db: Database) -> None:
    """Its hold was committed, and the answer to the commit was lost."""
    ann, bob = await process(), await process()
    row = await ann.begin(db, registered=False)
    await until(lambda: ann.ids == {row.id}, within_s=TTL_S)
    assert ann.worked[0].fence == 2
    assert not bob.worked


async def test_a_registered_job_is_left_alone_until_it_is_forgotten(process: Start, db: Database) -> None:
    ann, bob = await process(), await process()
    row = new_row(ann.ownership.owner)
    ann.ownership.register(row)
    await db.batch(ann.generations.create(row))
    await asyncio.sleep(TTL_S * 2)
    assert not ann.worked and not bob.worked
    ann.ownership.forget(row.id)
    ann.ownership.forget("never registered")
    await until(lambda: ann.ids == {row.id})


async def test_a_registered_job_that_is_run_is_registered_no_longer(process: Start, db: Database) -> None:
    ann = await process()
    ann.errors = [RuntimeError("once")]
    row = await ann.begin(db)
    ann.ownership.register(row)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 2)


async def test_never_two_tasks_of_one_job(process: Start, db: Database) -> None:
    ann = await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    again = await ann.generations.reclaim(row.id, ann.ownership.owner, 1)
    assert again is not None
    ann.ownership.run(again)  # the higher fence replaces the lower one
    ann.ownership.run(row)  # a lower one nothing
    await until(lambda: len(ann.worked) == 2)
    assert ann.cancelled == [row.id] and ann.worked[1].fence == 2
    assert ann.ownership.running == 1
    ann.hold.set()
    await until(lambda: ann.ownership.running == 0)
    assert await ann.generations.status(row.id) == "done"


async def test_a_slow_goodbye_of_the_replaced_task_is_waited_for(
    leases: Leases, generations: Generations, db: Database
) -> None:
    ann = Process(leases, generations)
    order: list[str] = []

    async def work(row: GenerationRow) -> None:
        order.append(f"begin {row.fence}")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            order.append(f"end {row.fence}")
            raise

    await ann.ownership.start(work)
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: order == ["begin 1"])
    again = await generations.reclaim(row.id, ann.ownership.owner, 1)
    assert again is not None
    ann.ownership.run(again)
    await until(lambda: order == ["begin 1", "end 1", "begin 2"])
    await ann.ownership.close()
    assert order[-1] == "end 2"


async def test_a_task_whose_row_another_owner_has_is_gone_within_a_heartbeat(process: Start, db: Database) -> None:
    ann = await process()
    mine, taken = await ann.begin(db), await ann.begin(db)
    ann.ownership.run(mine)
    ann.ownership.run(taken)
    await until(lambda: len(ann.worked) == 2)
    await ann.leases.hold("process:bob", "bob", 60_000)
    await db.batch(Statement("UPDATE generation SET owner = 'bob', fence = 2 WHERE id = $1", (taken.id,)))
    at = time.monotonic()
    await until(lambda: ann.cancelled == [taken.id])
    assert time.monotonic() - at < TTL_S
    await asyncio.sleep(TTL_S)
    assert ann.cancelled == [taken.id] and ann.ownership.running == 1


async def test_a_task_that_ends_its_row_may_end_itself(process: Start, db: Database) -> None:
    """The row has ended before the task has: the log's end is still to be written."""
    ann = await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    await db.batch(*ann.generations.finish(row, Outcome("done")))
    await asyncio.sleep(TTL_S)
    assert ann.ownership.running == 1 and not ann.cancelled


async def test_a_heartbeat_lets_go_of_what_others_have_before_it_says_what_runs(process: Start, db: Database) -> None:
    ann = await process()
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: len(ann.worked) == 1)
    await cancelled(ann.ownership._watching, ann.ownership._beating, ann.ownership._keeping)  # she sleeps
    ann.beats.clear()
    await ann.leases.hold("process:bob", "bob", 60_000)
    await db.batch(Statement("UPDATE generation SET owner = 'bob', fence = 2 WHERE id = $1", (row.id,)))
    order: list[str] = []
    drop, beat = ann.ownership._drop_taken, ann._beat

    async def dropping() -> None:
        await drop()
        order.append("dropped")

    async def beating(rows: Sequence[GenerationRow]) -> None:
        order.append("beat")
        await beat(rows)

    ann.ownership._drop_taken = dropping  # type: ignore[method-assign]
    await ann.ownership.start(ann._work, beating)
    await until(lambda: ann.cancelled == [row.id])
    assert order[0] == "dropped"


async def test_the_heartbeat_says_which_jobs_run(process: Start, db: Database) -> None:
    ann = await process()
    await asyncio.sleep(TTL_S)
    assert not ann.beats
    row = await ann.begin(db)
    ann.ownership.run(row)
    await until(lambda: [row.id] in ann.beats)


async def test_a_heartbeat_does_not_wait_for_what_follows_it(
    leases: Leases, generations: Generations, db: Database
) -> None:
    ann = Process(leases, generations)
    stuck = asyncio.Event()

    async def beat(rows: Sequence[GenerationRow]) -> None:
        stuck.set()
        await asyncio.sleep(30)

    await ann.ownership.start(ann._work, beat)
    ann.ownership.run(await ann.begin(db))
    await asyncio.wait_for(stuck.wait(), 5)
    for _ in range(10):
        await asyncio.sleep(TTL_S / 5)
        assert await leases.held([f"process:{ann.ownership.owner}"])
    async with asyncio.timeout(5):
        await ann.ownership.close()
    assert not await leases.held([f"process:{ann.ownership.owner}"])


async def test_trouble_in_the_heartbeat_or_the_watch_ends_neither(
    process: Start, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await process()
    real, failures = ann.generations.active_of, iter([RuntimeError("a bug"), RuntimeError("another")])

    async def troubled(owner: str) -> list[tuple[str, int]]:
        with suppress(StopIteration):
            raise next(failures)
        return await real(owner)

    monkeypatch.setattr(ann.generations, "active_of", troubled)
    row = await ann.begin(db, registered=False)
    await until(lambda: ann.ids == {row.id})
    assert await ann.leases.held([f"process:{ann.ownership.owner}"])


async def test_a_job_whose_preparation_outlasted_the_lease_is_looked_at_before_it_runs(
    process: Start, db: Database, leases: Leases
) -> None:
    ann = await process()
    await leases.hold("process:bob", "bob", 60_000)
    kept, taken = await ann.begin(db), await ann.begin(db)
    await asyncio.sleep(TTL_S / 3 + 0.05)
    await db.batch(Statement("UPDATE generation SET owner = 'bob', fence = fence + 1 WHERE id = $1", (taken.id,)))
    for row in (kept, taken):
        ann.ownership.run(row)
    await until(lambda: ann.ids == {kept.id} and ann.ownership.running == 1)
    assert [row.id for row in ann.worked] == [kept.id]


async def test_what_a_former_life_left_runs_before_start_returns(process: Start, db: Database, leases: Leases) -> None:
    ann = await process()
    row = await ann.begin(db, registered=False)
    await ann.die()
    await leases.release(f"process:{ann.ownership.owner}", ann.ownership.owner)
    bob = await process()
    assert (bob.ownership.running, bob.beats) == (1, [[row.id]])
    await until(lambda: bob.ids == {row.id})


@pytest.mark.parametrize(("owned", "worked"), [(True, 1), (False, 0)])
async def test_a_job_whose_preparation_took_long_is_done_if_it_is_still_ours(
    process: Start, db: Database, monkeypatch: pytest.MonkeyPatch, owned: bool, worked: int
) -> None:
    ann = await process()
    ann.hold.set()
    row = await ann.begin(db)

    async def says(_: GenerationRow) -> bool:
        return owned

    monkeypatch.setattr(ann.ownership._generations, "owned", says)
    began: list[GenerationRow] = []

    async def work(row: GenerationRow) -> None:
        began.append(row)

    run = ann.ownership._after(None, work, row, late=True)
    if owned:
        await run
    else:
        with pytest.raises(StaleOwner):
            await run
    assert len(began) == worked
    await ann.ownership._after(None, work, row, late=False)  # Nobody is asked.
    assert len(began) == worked + 1


async def test_who_starts_first_says_that_it_lives(
    leases: Leases, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others, to whom it is dead, may take from it what it takes over."""
    ann, order = Process(leases, generations), list[str]()
    hold, owners = ann.leases.hold, generations.owners

    async def holding(name: str, owner: str, ttl_ms: int) -> bool:
        order.append("lives")
        return await hold(name, owner, ttl_ms)

    async def looking() -> list[str]:
        order.append("looks")
        return await owners()

    monkeypatch.setattr(ann.leases, "hold", holding)
    monkeypatch.setattr(generations, "owners", looking)
    await ann.start()
    await ann.ownership.close()
    assert order[:2] == ["lives", "looks"]


@pytest.mark.parametrize(("share", "looks"), [(0, 0), (0.32, 0), (0.34, 1), (0.9, 1), (-0.1, 1)])
async def test_a_job_that_is_prepared_is_ours_for_certain_for_a_third_of_the_lease(
    leases: Leases,
    generations: Generations,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    looks: int,
) -> None:
    """The last heartbeat was a third of it ago at most, and the next one may be late by another."""
    now = [1_000.0]
    monkeypatch.setattr(presence, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ann, looked, owned = Process(leases, generations), list[str](), generations.owned

    async def looking(row: GenerationRow) -> bool:
        looked.append(row.id)
        return await owned(row)

    monkeypatch.setattr(generations, "owned", looking)
    ann.hold.set()
    row = await ann.begin(db)
    now[0] += share * TTL_S
    ann.ownership.run(row, ann._work)
    await until(lambda: ann.ownership.running == 0)
    assert (ann.ids, looked) == ({row.id}, [row.id] * looks)


async def test_there_are_three_heartbeats_in_a_lease(
    leases: Leases, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    every: dict[str, float] = {}

    async def repeat(step: Any, every_s: float) -> None:
        every[step.__name__] = every_s

    monkeypatch.setattr(module, "_repeat", repeat)
    ann = Process(leases, generations)
    await ann.start()
    await until(lambda: len(every) == 2)
    await ann.ownership.close()
    assert every == {"_beat": TTL_S / 3, "_watch": module.WATCH_S}


@pytest.mark.parametrize("least", [True, False])
@pytest.mark.parametrize(("took", "left"), [(0, 10), (4, 6), (10, 0), (3_600, 0), (-3_600, 10)])
async def test_a_round_that_took_long_has_a_shorter_pause_whatever_its_clock_did(
    monkeypatch: pytest.MonkeyPatch, took: float, left: float, least: bool
) -> None:
    now, slept = [1_000.0], list[float]()

    async def step() -> None:
        now[0] += took

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda low, high: low if least else high))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        await module._repeat(step, 10)
    assert slept == [pytest.approx(left * (0.8 if least else 1))]
