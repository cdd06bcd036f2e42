"""A replica that `bench.faults` kills writes nothing more, whatever its tasks still try while they end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import pytest

from bench.faults.column import stage
from bench.faults.replica import Stores
from bench.faults.schedule import Plan
from bench.faults.trouble import EngineHost, File
from bench.faults.witness import Turn
from chat_app.data.db.base import DatabaseUnavailable, Statement
from chat_app.data.log.base import LogUnavailable

PLAN = Plan(
    0, "never", "replica", "killed", 0.0, 1, {"tokens": 20, "rate": 0, "seed": 1, "drift": False}, "chat", False
)
NAMED = Statement("UPDATE generation SET error = 'last words'")


async def refused(write: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(15):
            await write
    except (DatabaseUnavailable, LogUnavailable, TimeoutError):
        return True
    return False


async def test_a_killed_life_has_no_last_words(stores: Stores, engine: EngineHost) -> None:
    """A task of it that is cancelled, in its `finally`, tries to write to both stores."""
    tried: list[bool] = []
    async with stage(stores, engine, "killed") as on:
        replica = on.replicas[0]
        parley = replica.parley

        async def streaming(request: Any) -> AsyncGenerator[Any, None]:
            try:
                replica.lose(kill=True)
                await asyncio.Event().wait()
                yield
            finally:
                tried.append(await refused(parley.db.batch(NAMED)))
                tried.append(await refused(parley.log.append(request.request_id, 1, 0, "last words")))

        parley.client.stream = streaming  # type: ignore[method-assign]
        turn = await on.clients.run(PLAN)
        assert tried == [True, True]
        verdict = await on.judge([turn])
        assert (verdict.found, verdict.taken_over) == ([], 1)


@pytest.mark.parametrize("stores", ["embedded"], indirect=True)
async def test_what_waits_for_the_files_lock_dies_too(stores: Stores, engine: EngineHost) -> None:
    async with stage(stores, engine, "killed") as on:
        replica = on.replicas[0]
        turn: Turn = await on.clients.run(PLAN)
        parley = replica.parley
        assert await File(stores.home / "parley.db").strike("pause", 1.0)
        writing = asyncio.create_task(refused(parley.db.batch(NAMED)))
        await asyncio.sleep(0.3)
        replica.lose(kill=True)
        assert await writing
        await replica.up.wait()
        rows = await replica.parley.db.query("SELECT error FROM generation WHERE id = $1", turn.generation_id)
        assert [row["error"] for row in rows] == [""]
