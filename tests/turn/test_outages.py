"""Full disk and locked database: a clear word at once, nothing lost, nothing charged twice."""

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chat_app.turn import TurnError
from chat_app.wiring import Parley
from tests.parley import StartParley, answer, expected, person, prompt_tokens, script


@pytest.fixture
async def parley(start_parley: StartParley) -> Parley:
    """An embedded Parley: these are the troubles of files."""
    return await start_parley()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow: what a full disk looks like to SQLite, without needing root to make one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked(parley: Parley) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with sqlite3.connect(parley.settings.sqlite_path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


async def test_a_full_disk_is_reported_and_leaves_no_trace(parley: Parley) -> None:
    ada = await person(parley)
    with full_disk(), pytest.raises(TurnError) as error:
        await parley.turns.say(ada, script(tokens=5, rate=0, seed=1))
    assert (error.value.code, error.value.status) == ("storage_unavailable", 503)
    assert await parley.threads.recent(ada) == []
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0
    started = await parley.turns.say(ada, question := script(tokens=5, rate=0, seed=1))
    assert await answer(parley, started.generation_id) == (expected(question), "done")


async def test_a_disk_that_fills_up_in_mid_answer_delays_it(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=200, rate=200, seed=1))
    await asyncio.sleep(0.3)
    with full_disk():
        await asyncio.sleep(1)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    assert (await parley.ledger.allowance(ada.user_id, None)).used == await prompt_tokens(parley, question) + 200


async def test_a_locked_database_is_reported(parley: Parley) -> None:
    ada = await person(parley)
    with locked(parley), pytest.raises(TurnError) as error:
        await parley.turns.say(ada, script(tokens=5, rate=0, seed=1))
    assert error.value.code == "storage_unavailable"
    started = await parley.turns.say(ada, script(tokens=5, rate=0, seed=1))
    assert (await answer(parley, started.generation_id))[1] == "done"


async def test_an_answer_that_ends_while_the_database_is_locked_is_settled_later(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=20, rate=100, seed=1))
    await asyncio.sleep(0.05)
    with locked(parley):
        await asyncio.sleep(7)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    assert (await parley.ledger.allowance(ada.user_id, None)).used == await prompt_tokens(parley, question) + 20
