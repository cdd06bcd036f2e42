"""Generations: claimed once, written by the latest fence alone, found without reading what has ended."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from chat_app.data.db.base import Database, Row, Statement, Unmet, Value
from chat_app.data.tables.sessions import ACTIVE, IS_ACTIVE
from chat_app.sessions.generations import ENDED, LOST, GenerationRow, Generations, Kept, NotFound, Outcome
from chat_app.sessions.steps import Step, Steps


@dataclass(frozen=True)
class Person:
    user_id: str = "ada"
    tenant_id: str = "t"


def row(generation_id: str = "g", owner: str = "ann", created_at: int = 1) -> GenerationRow:
    return GenerationRow(generation_id, "t", "ada", "free", "2026-11", created_at, owner=owner)


async def stored(db: Database, generation_id: str = "g") -> Row:
    return (await db.query("SELECT * FROM generation WHERE id = $1", generation_id))[0]


async def with_message(db: Database) -> GenerationRow:
    """A generation that writes the message `m` of the thread `th`; `other` is a message beside it."""
    mine = replace(row(), thread_id="th", message_id="m")
    await db.batch(
        Statement("INSERT INTO tenant (id, name, created_at) VALUES ('t', 't', 0) ON CONFLICT DO NOTHING"),
        Statement(
            "INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
            " VALUES ('free', 'Free', 1, 1, 1, 1, 0)"
        ),
        Statement(
            "INSERT INTO users (id, tenant_id, email, name, role, plan_id, password_hash, created_at)"
            " VALUES ('ada', 't', 'ada@example.org', '', 'user', 'free', '', 0)"
        ),
        Statement(
            "INSERT INTO thread (id, tenant_id, user_id, title, model, created_at, updated_at)"
            " VALUES ('th', 't', 'ada', '', '', 0, 0)"
        ),
        *(
            Statement(
                "INSERT INTO message (id, thread_id, role, content, log, depth, generation_id, created_at)"
                " VALUES ($1, 'th', 'assistant', '', '', 1, $2, 0)",
                (message, generation),
            )
            for message, generation in (("m", "g"), ("other", "o"))
        ),
        Generations(db).create(mine),
    )
    return mine


@pytest.fixture
def generations(db: Database) -> Generations:
    return Generations(db)


async def lost(db: Database, *statements: Statement) -> None:
    """Each of the statements is refused, by itself and with others before it."""
    for statement in statements:
        with pytest.raises(Unmet) as unmet:
            await db.batch(statement)
        assert unmet.value.name == LOST


# Claims


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
        await db.batch(generations.create(replace(row(f"v{version}"), job_version=version)))
    assert {claimed.id for claimed in await generations.claim("ann", "bob", 10, 2)} == {"v0", "v1", "v2"}
    assert [claimed.id for claimed in await generations.claim("ann", "bob", 10, 3)] == ["v3"]


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


async def test_of_many_reclaims_at_once_one_gets_it(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    claims = await asyncio.gather(*(generations.reclaim("g", "ann", 1) for _ in range(10)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_job_that_is_handed_back_has_no_owner(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other")))
    [mine] = await generations.claim("ann", "bob", 1, 1)
    await generations.hand_back(row(mine.id))  # a stale owner cannot
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


async def test_owners_are_listed_once_however_many_jobs_they_have(db: Database, generations: Generations) -> None:
    assert await generations.owners() == []
    for n in range(12):
        await db.batch(generations.create(row(f"g{n}", ("cat", "ann", "", "bob")[n % 4], n)))
    assert await generations.owners() == ["", "ann", "bob", "cat"]
    await db.batch(*(s for n in (1, 5, 9) for s in generations.finish(row(f"g{n}"), Outcome("done"))))
    assert await generations.owners() == ["", "bob", "cat"]


# Fences


async def test_a_stale_owner_writes_nothing(db: Database, generations: Generations) -> None:
    stale = await with_message(db)
    await db.batch(generations.checkpoint(stale, 0, "abc"))
    [mine] = await generations.claim("ann", "bob", 1, 1)
    before = [await db.query(f"SELECT * FROM {table}") for table in ("generation", "checkpoint", "message")]
    for writer in (stale, replace(mine, fence=mine.fence + 1), replace(mine, id="unknown")):
        await lost(
            db,
            generations.advance(writer, 2, 5, 5),
            generations.streaming(writer, 5),
            generations.checkpoint(writer, 0, "xyz"),
            generations.checkpoint(writer, 3, "xyz"),
        )
        with pytest.raises(Unmet, match=LOST):
            await db.batch(*generations.finish(writer, Outcome("done", "x")))
    after = [await db.query(f"SELECT * FROM {table}") for table in ("generation", "checkpoint", "message")]
    assert after == before
    await db.batch(
        generations.advance(mine, 2, 5, 6), generations.streaming(mine, 5), generations.checkpoint(mine, 0, "xyz")
    )
    await db.batch(*generations.finish(mine, Outcome("done", "x")))


async def test_a_job_that_has_ended_takes_no_more_writes(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), *generations.finish(row(), Outcome("stopped")))
    await lost(
        db,
        generations.advance(row(), 2, 5, 5),
        generations.streaming(row(), 5),
        generations.checkpoint(row(), 0, "xyz"),
    )
    with pytest.raises(Unmet, match=LOST):
        await db.batch(*generations.finish(row(), Outcome("done")))
    assert await generations.status("g") == "stopped"
    assert await generations.checkpointed("g") == ""


async def test_a_checkpoint_that_meets_a_claim_is_written_before_it_or_not_at_all(
    db: Database, generations: Generations
) -> None:
    if db.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    await db.batch(generations.create(row()))
    claiming = asyncio.create_task(
        db.batch(
            Statement("UPDATE generation SET owner = 'bob', fence = fence + 1 WHERE id = 'g'"),
            Statement("SELECT pg_sleep(0.5)"),
        )
    )
    await asyncio.sleep(0.2)
    await lost(db, generations.checkpoint(row(), 0, "late"))
    await claiming
    assert await generations.checkpointed("g") == ""


# What is written


async def test_a_job_advances(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other")))
    await db.batch(generations.advance(row(), 4, 70, 9))
    changed = await stored(db)
    assert (changed["step"], changed["held_tokens"], changed["held_micro"]) == (4, 70, 9)
    untouched = await stored(db, "other")
    assert (untouched["step"], untouched["held_tokens"], untouched["held_micro"]) == (1, 0, 0)


async def test_text_flows_since_the_first_token_of_the_first_owner(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    await db.batch(generations.streaming(row(), None))
    assert dict(await stored(db)).items() >= {"status": "streaming", "first_token_at": None}.items()
    await db.batch(generations.streaming(row(), 5))
    await db.batch(generations.streaming(row(), 9))
    assert (await stored(db))["first_token_at"] == 5
    await db.batch(*generations.finish(row(), Outcome("done")))
    assert (await stored(db))["first_token_at"] == 5


async def test_the_end_is_written_whole(db: Database, generations: Generations) -> None:
    await with_message(db)
    ended = Outcome(
        "failed", "The text\nü", completion_tokens=1, prompt_tokens=2, cached_tokens=3, cost_micro=4, error="why",
        first_token_at=5, finished_at=6, receipt={"finish": "é"}, log="the log", log_length=7,
    )  # fmt: skip
    await db.batch(generations.advance(row(), 2, 5, 5))
    await db.batch(*generations.finish(replace(row(), message_id="m"), ended))
    view = await generations.view(Person(), "g")
    assert (view.status, view.prompt_tokens, view.completion_tokens, view.cached_tokens) == ("failed", 2, 1, 3)
    assert (view.cost_micro, view.error, view.receipt, view.ended) == (4, "why", {"finish": "é"}, True)
    end = {"first_token_at": 5, "finished_at": 6, "log_length": 7, "job": "", "held_tokens": 0, "held_micro": 0}
    assert dict(await stored(db)).items() >= end.items()
    assert await generations.kept("g") == Kept("the log", 7)
    [untouched] = await db.query("SELECT content, log FROM message WHERE id = 'other'")
    assert dict(untouched) == {"content": "", "log": ""}


async def test_the_end_deletes_what_only_a_running_job_needs(db: Database, generations: Generations) -> None:
    steps = Steps(db)
    for name in ("g", "other"):
        mine = replace(row(name), job="secret")
        await db.batch(generations.create(mine), generations.checkpoint(mine, 0, "text"))
        await db.batch(steps.begin(mine, Step(name, 1, "tool")))
        await db.batch(steps.finish(mine, Step(name, 1, "tool", status="done", output="a result")))
    await db.batch(*generations.finish(row(), Outcome("done")))
    assert [step.output for step in await steps.of("g")] == [""]
    assert await generations.checkpointed("g") == "" and (await stored(db))["job"] == ""
    assert [step.output for step in await steps.of("other")] == ["a result"]
    assert await generations.checkpointed("other") == "text" and (await stored(db, "other"))["job"] == "secret"


async def test_an_end_without_a_message_keeps_the_log_s_length_alone(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    assert await generations.kept("g") == Kept("", 0)
    await db.batch(*generations.finish(row(), Outcome("done", "text", log="text", log_length=4)))
    assert await generations.kept("g") == Kept("", 4)
    assert await generations.kept("unknown") == Kept("", 0)


async def test_a_log_that_is_but_its_text_is_kept_once(db: Database, generations: Generations) -> None:
    mine = await with_message(db)
    await db.batch(*generations.finish(mine, Outcome("done", "text", log="text", log_length=30)))
    [message] = await db.query("SELECT content, log FROM message WHERE id = 'm'")
    assert dict(message) == {"content": "text", "log": ""}
    assert await generations.kept("g") == Kept("text", 30)


# What is read


async def test_checkpoints_are_read_in_order_and_up_to_the_first_gap(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()), generations.create(row("other")))
    for start, text in ((4, "efg"), (0, "abcd"), (9, "lost"), (2_000, "lost too")):
        await db.batch(generations.checkpoint(row(), start, text))
    await db.batch(generations.checkpoint(row("other"), 0, "another's"))
    assert await generations.checkpointed("g") == "abcdefg"
    await db.batch(generations.checkpoint(row(), 7, "h"))
    assert await generations.checkpointed("g") == "abcdefgh"
    await db.batch(generations.checkpoint(row(), 7, "hi"))  # the same piece again, and longer
    assert await generations.checkpointed("g") == "abcdefghilost"
    assert await generations.checkpointed("unknown") == ""


async def test_a_piece_that_overlaps_the_one_before_replaces_its_end(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    await db.batch(generations.checkpoint(row(), 0, "abcdef"), generations.checkpoint(row(), 3, "DEFG"))
    assert await generations.checkpointed("g") == "abcDEFG"


async def test_the_answers_that_are_being_written_in_a_thread(db: Database, generations: Generations) -> None:
    for name, thread in (("a", "th"), ("b", "th"), ("c", "another"), ("d", None)):
        await db.batch(generations.create(replace(row(name), thread_id=thread)))
    assert sorted(await generations.active_in("th")) == ["a", "b"]
    await db.batch(*generations.finish(row("a"), Outcome("done")))
    assert await generations.active_in("th") == ["b"]
    assert await generations.active_in("unknown") == []


async def test_another_person_sees_nothing(db: Database, generations: Generations) -> None:
    await db.batch(generations.create(row()))
    assert not (await generations.view(Person(), "g")).ended
    for person, generation_id in ((Person("eve"), "g"), (Person(), "unknown")):
        with pytest.raises(NotFound):
            await generations.view(person, generation_id)
    assert await generations.status("unknown") is None


# Plans


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


def test_the_statuses_are_spelled_once() -> None:
    assert f"status IN ({', '.join(map(repr, ACTIVE))})" == IS_ACTIVE
    assert not ENDED & set(ACTIVE)
