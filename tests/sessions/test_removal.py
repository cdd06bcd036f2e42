"""What is removed for good: deleted threads, and calls that are old, once all in them has ended; nothing else."""

from dataclasses import replace

import pytest

from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms
from chat_app.data.tables.sessions import ACTIVE
from chat_app.sessions.generations import ENDED, Generations
from chat_app.sessions.removal import AT_ONCE, SETTLED_MS, Removal
from tests.sessions.rows import row
from tests.sessions.thread_author import Author, add_people

LONG_AGO = 1_000
NEWER = "waiting"
"""A status that only a newer release knows."""


@pytest.fixture
async def author(db: Database) -> Author:
    await add_people(db)
    return Author(db)


async def answered(
    author: Author, status: str = "done", finished_at: int | None = LONG_AGO, deleted_at: int | None = LONG_AGO
) -> str:
    """A thread with one answer in this status; the thread's id, which is also its answer's. Times in milliseconds."""
    thread_id = (await author.say("hello")).thread_id
    generation = replace(row(thread_id), thread_id=thread_id, status=status)
    await author.db.batch(
        Generations(author.db).create(generation),
        Statement("UPDATE generation SET finished_at = $2 WHERE id = $1", (thread_id, finished_at)),
        Statement("UPDATE thread SET deleted_at = $2 WHERE id = $1", (thread_id, deleted_at)),
    )
    return thread_id


async def called(
    author: Author, id: str, finished_at: int | None, status: str = "done", thread_id: str | None = None
) -> None:
    await author.db.batch(
        Generations(author.db).create(replace(row(id), source="api", status=status, thread_id=thread_id)),
        Statement("UPDATE generation SET finished_at = $2 WHERE id = $1", (id, finished_at)),
    )


async def count(db: Database, table: str, thread_id: str) -> int:
    column = "id" if table == "thread" else "thread_id"
    rows = await db.query(f"SELECT COUNT(*) AS n FROM {table} WHERE {column} = $1", thread_id)
    return int(rows[0]["n"])


async def test_threads_that_were_deleted_are_due_and_no_others(author: Author) -> None:
    removal = Removal(author.db)
    just_now = now_ms() - SETTLED_MS + 20_000
    due = await answered(author)
    empty = (await author.say("nobody answered")).thread_id
    await author.db.batch(Statement("UPDATE thread SET deleted_at = $2 WHERE id = $1", (empty, LONG_AGO + 1)))
    await answered(author, deleted_at=None)
    await answered(author, deleted_at=just_now)
    await answered(author, finished_at=just_now)
    assert await removal.deleted_threads() == [due, empty]


@pytest.mark.parametrize("status", [*ACTIVE, NEWER])
@pytest.mark.parametrize("finished_at", [None, LONG_AGO])
async def test_what_has_not_ended_is_left_alone(author: Author, status: str, finished_at: int | None) -> None:
    """By status and by time: of a status that this release does not know it cannot say that it has ended."""
    removal = Removal(author.db)
    thread_id = await answered(author, status, finished_at)
    await called(author, "call", finished_at, status)
    assert await removal.deleted_threads() == []
    assert await removal.answers_in(thread_id) == []
    assert await removal.calls_before(now_ms()) == []


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_what_has_ended_is_due_however_it_did(author: Author, status: str) -> None:
    removal = Removal(author.db)
    thread_id = await answered(author, status)
    await called(author, "call", LONG_AGO, status)
    assert await removal.deleted_threads() == [thread_id]
    assert await removal.answers_in(thread_id) == [thread_id]
    assert await removal.calls_before(now_ms()) == ["call"]


async def test_an_answer_whose_end_nobody_wrote_down_is_left_alone(author: Author) -> None:
    removal = Removal(author.db)
    thread_id = await answered(author, finished_at=None)
    await called(author, "call", None)
    assert await removal.deleted_threads() == []
    assert await removal.answers_in(thread_id) == []
    assert await removal.calls_before(now_ms()) == []


async def test_one_answer_at_work_keeps_the_whole_thread(author: Author) -> None:
    thread_id = await answered(author)
    await called(author, "second", None, NEWER, thread_id)
    assert await Removal(author.db).deleted_threads() == []


async def test_answers_of_a_thread_are_its_own(author: Author) -> None:
    mine, _ = await answered(author), await answered(author)
    assert await Removal(author.db).answers_in(mine) == [mine]


async def test_calls_are_old_by_their_end_and_answers_in_chats_are_no_calls(author: Author) -> None:
    await answered(author, deleted_at=None)
    for id, ended in (("old", LONG_AGO), ("younger", LONG_AGO + 1_000), ("youngest", LONG_AGO + 2_000)):
        await called(author, id, ended)
    assert await Removal(author.db).calls_before(LONG_AGO + 1_000) == ["old"]


async def test_a_thread_that_is_not_deleted_keeps_all_it_has(author: Author) -> None:
    removal = Removal(author.db)
    thread_id = await answered(author, deleted_at=None)
    empty = await answered(author, deleted_at=None)
    await author.db.batch(Statement("DELETE FROM message WHERE thread_id = $1", (empty,)))
    for each in (thread_id, empty):
        assert await removal.thread(each)
        assert await count(author.db, "thread", each) == 1
    assert await count(author.db, "message", thread_id) == 2


async def test_a_deleted_thread_goes_with_the_last_of_its_messages(author: Author) -> None:
    removal = Removal(author.db)
    kept = await answered(author)
    thread_id = await author.long_thread(AT_ONCE)
    await author.db.batch(Statement("UPDATE thread SET deleted_at = $2 WHERE id = $1", (thread_id, LONG_AGO)))
    assert not await removal.thread(thread_id)
    assert (await count(author.db, "thread", thread_id), await count(author.db, "message", thread_id)) == (1, AT_ONCE)
    while not await removal.thread(thread_id):
        pass
    assert (await count(author.db, "thread", thread_id), await count(author.db, "message", thread_id)) == (0, 0)
    assert (await count(author.db, "thread", kept), await count(author.db, "message", kept)) == (1, 2)
