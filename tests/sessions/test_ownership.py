"""Ownership: two processes over one database, of which one dies, sleeps, or cannot reach the leases."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from chat_app.data.db.base import Database, Statement
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.leases.memory import MemoryLeases
from chat_app.data.leases.valkey import ValkeyLeases
from chat_app.data.log.base import StaleOwner
from chat_app.sessions import ownership as module
from chat_app.sessions import presence
from chat_app.sessions.generations import GenerationRow, Generations, Outcome
from chat_app.sessions.ownership import Ownership

TTL_MS = 500
TTL_S = TTL_MS / 1000
_ids = count()


class Process:
    """What stands for a process: its ownership, and what became of the jobs it was given."""

    def __init__(self, leases: Leases, generations: Generations, version: int = 1) -> None:
        self.leases = Switched(leases)
        self.generations = generations
        self.ownership = Ownership(self.leases, generations, TTL_MS, version)
        self.worked: list[GenerationRow] = []
        self.began: list[float] = []
        self.cancelled: list[str] = []
        self.beats: list[list[str]] = []
        self.errors: list[Exception] = []
        """Raised by the next tasks, one each."""
        self.hold = asyncio.Event()
        """Once set, tasks end their job."""
        self.at_once: dict[str, int] = {}

    async def start(self) -> None:
        await self.ownership.start(self._work, self._beat)

    async def begin(self, db: Database, job_version: int = 1, *, registered: bool = True) -> GenerationRow:
        """A new job of this process, committed but not run."""
        number = next(_ids)
        row = GenerationRow(
            f"g{number}", "t", "ada", "free", "2026-11", number, owner=self.ownership.owner, job_version=job_version
        )
        if registered:
            self.ownership.register(row.id)
        await db.batch(self.generations.create(row))
        return row

    async def die(self) -> None:
        """As if killed: nothing is released, nothing is said."""
        ownership = self.ownership
        ownership._closing = True
        await module._cancelled(ownership._watching, ownership._beating, ownership._keeping, *ownership._tasks)

    @property
    def ids(self) -> set[str]:
        return {row.id for row in self.worked}

    async def _work(self, row: GenerationRow) -> None:
        self.worked.append(row)
        self.began.append(time.monotonic())
        self.at_once[row.id] = self.at_once.get(row.id, 0) + 1
        assert self.at_once[row.id] == 1, "two tasks of one job"
        try:
            if self.errors:
                raise self.errors.pop(0)
            await self.hold.wait()
            await self.generations._db.batch(*self.generations.finish(row, Outcome("done")))
        except asyncio.CancelledError:
            self.cancelled.append(row.id)
            raise
        finally:
            self.at_once[row.id] -= 1

    async def _beat(self, rows: Sequence[GenerationRow]) -> None:
        self.beats.append([row.id for row in rows])


class Switched:
    """Real leases, with a wire that can be cut."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.cut = False

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        self._check()
        return await self._leases.hold(name, owner, ttl_ms)

    async def release(self, name: str, owner: str) -> None:
        self._check()
        await self._leases.release(name, owner)

    async def held(self, names: Iterable[str]) -> set[str]:
        self._check()
        return await self._leases.held(names)

    def _check(self) -> None:
        if self.cut:
            raise LeasesUnavailable("the wire is cut")


@pytest.fixture(params=["memory", "valkey"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    leases: Leases = ValkeyLeases(request.getfixturevalue("redis_url")) if request.param == "valkey" else MemoryLeases()
    yield leases
    await leases.close()


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What was logged. To print tracebacks takes longer than the pauses that are measured here."""
    with capture_logs() as logged:
        yield logged


@pytest.fixture
def generations(db: Database, monkeypatch: pytest.MonkeyPatch) -> Generations:
    monkeypatch.setattr(module, "WATCH_S", 0.05)
    monkeypatch.setattr(module, "PAUSE_S", 0.1)
    return Generations(db)


@pytest.fixture
async def process(leases: Leases, generations: Generations) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """A function that starts a process. All share the leases and the database."""
    made: list[Process] = []

    async def start(version: int = 1) -> Process:
        process = Process(leases, generations, version)
        made.append(process)
        await process.start()
        return process

    yield start
    for process in made:
        process.leases.cut = True
        await process.ownership.close()


Start = Callable[..., Awaitable[Process]]


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


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
    closed = time.monotonic()
    assert ann.cancelled == [row.id]
    assert not await bob.leases.held([f"process:{ann.ownership.owner}"])
    await until(lambda: bob.ids == {row.id})
    assert time.monotonic() - closed < TTL_S
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
    assert pauses[0] < 0.4
    levels = [entry["log_level"] for entry in logged if "left" in entry["event"] or "interrupted" in entry["event"]]
    assert levels == ["error", "error", "info", "error"]  # a stale owner ends quietly
    ann.hold.set()
    await until(lambda: ann.ownership.running == 0)
    await until(lambda: not ann.ownership._pauses)  # nothing is kept of a job that has ended


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
    number = next(_ids)
    row = GenerationRow(f"g{number}", "t", "ada", "free", "2026-11", number, owner=ann.ownership.owner)
    ann.ownership.register(row.id)
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
    ann.ownership.register(row.id)
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
    await module._cancelled(ann.ownership._watching, ann.ownership._beating, ann.ownership._keeping)
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
