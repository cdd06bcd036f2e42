"""Claims: one claimer gets a job, under its next fence, found without reading what has ended."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from typing import Literal

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from chat_app.data.db.base import Database, Row, Statement, Value
from chat_app.data.ids import now_ms
from chat_app.data.tables.sessions import ACTIVE
from chat_app.sessions.generations import ENDED, LEFT_MS, Generations, Outcome
from tests.sessions.rows import row, stored
from tests.sessions.thread_author import ADA, Author, add_people


@pytest.fixture
def generations(db: Database) -> Generations:
    return Generations(db)


async def test_a_claim_returns_all_that_the_next_owner_needs(db: Database, generations: Generations) -> None:
    made = replace(
        row(), source="api", thread_id="th", message_id="m", model="qwen", job='{"a": "ü"}', step=3, held_tokens=7,
        held_micro=9, status="streaming", fence=4, attempts=2, first_token_at=5,
    )  # fmt: skip
    await db.batch(generations.create(made))
    [claimed] = await generations.claim("ann", "bob", 10, 1)
    assert claimed == replace(made, owner="bob", fence=5, attempts=3)
    assert asdict(claimed).items() <= dict(await stored(db)).items()


async def test_two_claimers_at_once_never_get_the_same_row(db: Database, generations: Generations) -> None:
    for n in range(40):
        await db.batch(generations.create(row(f"g{n:02}", created_at=n)))
    claims = await asyncio.gather(*(generations.claim("ann", f"bob{n}", 3, 1) for n in range(20)))
    taken = [claimed.id for claim in claims for claimed in claim]
    assert len(taken) == len(set(taken))
    assert all(len(claim) <= 3 for claim in claims)
    while claim := await generations.claim("ann", "cat", 7, 1):  # whoever was skipped is there the next time
        assert len(claim) <= 7
        taken += [claimed.id for claimed in claim]
    assert sorted(taken) == [f"g{n:02}" for n in range(40)]
    rows = await db.query("SELECT fence, attempts FROM generation")
    assert {(row["fence"], row["attempts"]) for row in rows} == {(2, 2)}


async def test_a_claim_passes_over_rows_that_somebody_is_writing(db: Database, generations: Generations) -> None:
    if db.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    await db.batch(generations.create(row("a", created_at=1)), generations.create(row("b", created_at=2)))
    writing = asyncio.create_task(db.batch(generations.advance(row("a"), 2, 0, 0), Statement("SELECT pg_sleep(1)")))
    await asyncio.sleep(0.3)
    async with asyncio.timeout(0.5):
        assert [claimed.id for claimed in await generations.claim("ann", "bob", 2, 1)] == ["b"]
    await writing
    assert [claimed.id for claimed in await generations.claim("ann", "bob", 2, 1)] == ["a"]


async def test_the_oldest_are_claimed_first_and_only_of_that_owner(db: Database, generations: Generations) -> None:
    for name, owner, at in (("new", "ann", 3), ("old", "ann", 1), ("eves", "eve", 0), ("middle", "ann", 2)):
        await db.batch(generations.create(row(name, owner, at)))
    assert {claimed.id for claimed in await generations.claim("ann", "bob", 2, 1)} == {"old", "middle"}
    assert await generations.active_of("bob") == [("old", 2), ("middle", 2)]
    assert await generations.active_of("eve") == [("eves", 1)]
    assert await generations.claim("ann", "bob", 0, 1) == []


async def test_a_newer_release_keeps_its_jobs(db: Database, generations: Generations) -> None:
    for version in (0, 1, 2, 3):
        await db.batch(generations.create(replace(row(f"v{version}", created_at=now_ms()), job_version=version)))
    assert {claimed.id for claimed in await generations.claim("ann", "bob", 10, 2)} == {"v0", "v1", "v2"}
    assert [claimed.id for claimed in await generations.claim("ann", "bob", 10, 3)] == ["v3"]


async def test_a_newer_release_keeps_its_jobs_for_an_hour(db: Database, generations: Generations) -> None:
    for id, age in (("fresh", LEFT_MS - 60_000), ("old", LEFT_MS + 1)):
        await db.batch(generations.create(replace(row(id, created_at=now_ms() - age), job_version=3)))
    assert [claimed.id for claimed in await generations.claim("ann", "bob", 10, 2)] == ["old"]


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_a_job_that_has_ended_is_nobodys(db: Database, generations: Generations, status: str) -> None:
    await db.batch(generations.create(row()), *generations.finish(row(), Outcome(status)))
    assert await generations.claim("ann", "bob", 10, 1) == []
    assert await generations.reclaim("g", "ann", 1) is None
    await generations.hand_back(row())
    assert (await stored(db))["owner"] == "ann"
    assert await generations.owners() == [] and await generations.active_of("ann") == []
    assert await generations.owned(row())  # nobody has taken it


@pytest.mark.parametrize("status", ACTIVE)
async def test_a_job_that_is_active_is_somebodys(db: Database, generations: Generations, status: str) -> None:
    await db.batch(generations.create(replace(row(), status=status)))
    assert await generations.owners() == ["ann"]
    assert len(await generations.claim("ann", "bob", 1, 1)) == 1


async def test_a_job_is_reclaimed_by_its_owner_under_its_fence(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other")))
    assert await generations.reclaim("g", "bob", 1) is None
    assert await generations.reclaim("g", "ann", 0) is None
    assert await generations.reclaim("g", "ann", 2) is None
    assert await generations.reclaim("unknown", "ann", 1) is None
    assert await generations.reclaim("g", "ann", 1) == replace(row(), fence=2, attempts=2)
    assert await generations.reclaim("g", "ann", 1) is None  # once
    assert (await stored(db, "other"))["fence"] == 1
    for fence, counted, attempts in ((2, False, 2), (3, True, 3), (4, False, 3)):
        again = await generations.reclaim("g", "ann", fence, counted=counted)
        assert again == replace(row(), fence=fence + 1, attempts=attempts)
    assert (await generations.reclaim("other", "ann", 1, counted=False)).attempts == 2  # type: ignore[union-attr]


async def test_of_many_reclaims_at_once_one_gets_it(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    claims = await asyncio.gather(*(generations.reclaim("g", "ann", 1) for _ in range(10)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_job_that_is_handed_back_has_no_owner(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other")))
    [mine] = await generations.claim("ann", "bob", 1, 1)
    await generations.hand_back(row(mine.id))  # a stale owner cannot
    await generations.hand_back(replace(mine, owner="ann"))  # nor can anybody else under the same fence
    assert await generations.owned(mine)
    await generations.hand_back(mine)
    assert not await generations.owned(mine)
    assert await generations.owners() == ["", "ann"]
    [again] = await generations.claim("", "cat", 10, 1)
    assert (again.id, again.fence, again.attempts) == (mine.id, 3, 2)


async def test_owned_until_another_claims_it(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other", "bob")))
    assert await generations.owned(row())
    assert not await generations.owned(replace(row(), owner="bob"))
    assert not await generations.owned(replace(row(), fence=2))
    assert not await generations.owned(row("unknown"))
    [mine] = await generations.claim("ann", "bob", 1, 1)
    assert await generations.owned(mine) and not await generations.owned(row())


async def test_what_was_done_under_a_fence(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other", "cat")))
    assert await generations.step_under(row()) == 1 and not await generations.ended_under(row())
    await db.batch(generations.advance(row(), 3, 0, 0))
    assert await generations.step_under(row()) == 3
    [mine] = await generations.claim("ann", "bob", 1, 1)
    assert (await generations.step_under(row()), await generations.step_under(mine)) == (None, 3)
    assert await generations.step_under(row("unknown")) is None
    await db.batch(*generations.finish(mine, Outcome("done")))
    assert await generations.ended_under(mine) and not await generations.ended_under(row())
    assert not await generations.ended_under(row("other")) and not await generations.ended_under(row("unknown"))


async def test_of_an_owners_active_jobs_those_in_deleted_threads(db: Database, generations: Generations) -> None:
    await add_people(db)
    author = Author(db)
    threads = {name: (await author.say(name)).thread_id for name in ("deleted", "kept")}
    for name, owner in (("anns", "ann"), ("ended", "ann"), ("bobs", "bob")):
        await db.batch(generations.create(replace(row(name, owner), thread_id=threads["deleted"])))
    await db.batch(generations.create(replace(row("kept"), thread_id=threads["kept"])), generations.create(row("api")))
    await db.batch(*generations.finish(row("ended"), Outcome("done")))
    assert await generations.in_deleted_threads("ann") == []
    await author.threads.delete(ADA, threads["deleted"])
    assert await generations.in_deleted_threads("ann") == ["anns"]


async def test_owners_are_listed_once_however_many_jobs_they_have(db: Database, generations: Generations) -> None:
    assert await generations.owners() == []
    for n in range(12):
        await db.batch(generations.create(row(f"g{n}", ("cat", "ann", "", "bob")[n % 4], n)))
    assert await generations.owners() == ["", "ann", "bob", "cat"]
    await db.batch(*(s for n in (1, 5, 9) for s in generations.finish(row(f"g{n}"), Outcome("done"))))
    assert await generations.owners() == ["", "bob", "cat"]


class Recording:
    """A database that remembers what it was asked."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.dialect: Literal["sqlite", "postgresql"] = db.dialect
        self.asked: list[tuple[str, tuple[Value, ...]]] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self._db.session()

    async def batch(self, *statements: Statement) -> list[list[Row]]:
        self.asked += [(statement.sql, statement.params) for statement in statements]
        return await self._db.batch(*statements)

    async def query(self, sql: str, *params: Value) -> Sequence[Row]:
        self.asked.append((sql, params))
        return await self._db.query(sql, *params)


async def test_whose_jobs_they_are_is_found_in_the_partial_index(db: Database) -> None:
    """However many answers have ended: not one of these reads the table through."""
    many = f"""
        INSERT INTO generation (id, tenant_id, user_id, source, status, owner, fence, model, plan_id, job, job_version,
          step, period, held_tokens, held_micro, prompt_tokens, completion_tokens, cached_tokens, cost_micro, attempts,
          error, receipt, log_length, created_at)
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
        SELECT 'g' || n, 't', 'ada', 'chat', CASE WHEN n % 50 = 0 THEN '{ACTIVE[0]}' ELSE 'done' END, 'o' || (n % 7), 1,
          '', 'free', '', 1, 1, '2026-11', 0, 0, 0, 0, 0, 0, 1, '', '', 0, n FROM n"""
    await db.batch(Statement(many))
    await db.batch(Statement("ANALYZE generation"))
    recording = Recording(db)
    generations = Generations(recording)
    owners = await generations.owners()
    assert owners == [f"o{n}" for n in range(7)]
    assert len(await generations.active_of("o3")) == 57
    assert len(await generations.claim("o3", "ann", 5, 1)) == 5
    assert len(recording.asked) == 3
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
    for sql, params in recording.asked:
        [plan] = await db.batch(Statement(explain + sql, params))
        lines = [str(line.get("detail") or line.get("QUERY PLAN")) for line in plan]
        assert any("generation_active" in line for line in lines), lines
        for line in lines:
            assert "Seq Scan on generation" not in line, lines
            assert not line.startswith("SCAN generation") or "generation_active" in line, lines
            assert "generation_by_user" not in line, lines
