"""Generations: written by the latest fence alone, ended whole, read by whom they belong to."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.tables.sessions import ACTIVE, IS_ACTIVE
from chat_app.sessions.generations import ENDED, NOT_OWNER, GenerationRow, Generations, Kept, NotFound, Outcome
from chat_app.sessions.steps import Step, Steps
from tests.sessions.rows import lost, row, stored


@dataclass(frozen=True)
class Person:
    user_id: str = "ada"
    tenant_id: str = "t"


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
        with pytest.raises(Unmet, match=NOT_OWNER):
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
    with pytest.raises(Unmet, match=NOT_OWNER):
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
        await db.batch(steps.begin(mine, Step(name, 2, "tool")))
        await db.batch(steps.finish(mine, Step(name, 2, "tool", status="done", output="a result")))
    await db.batch(*generations.finish(replace(row(), step=2), Outcome("done")))
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


def test_the_statuses_are_spelled_once() -> None:
    assert f"status IN ({', '.join(map(repr, ACTIVE))})" == IS_ACTIVE
    assert not ENDED & set(ACTIVE)


async def test_an_answer_is_seen_until_its_own_thread_is_deleted(db: Database, generations: Generations) -> None:
    await with_message(db)
    await db.batch(
        Statement(
            "INSERT INTO thread (id, tenant_id, user_id, title, model, created_at, updated_at, deleted_at)"
            " VALUES ('gone', 't', 'ada', '', '', 0, 0, 5)"
        ),
        generations.create(replace(row("in gone"), thread_id="gone")),
        generations.create(row("call")),
    )
    with pytest.raises(NotFound):
        await generations.view(Person(), "in gone")
    for seen in ("g", "call"):
        assert (await generations.view(Person(), seen)).id == seen
