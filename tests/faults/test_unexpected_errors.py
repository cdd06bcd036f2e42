"""`bench.faults` finds an error that is no refusal wherever a client meets it, unless its process was killed."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from bench.faults.column import stage
from bench.faults.replica import Stores
from bench.faults.schedule import Plan
from bench.faults.trouble import EngineHost

PLAN = Plan(0, "never", "engine", "reset", 0.0, 1, {"tokens": 20, "rate": 0, "seed": 1, "drift": False}, "chat", False)


async def test_an_error_out_of_asking_is_found(stores: Stores, engine: EngineHost) -> None:
    async def say(*_: object) -> None:
        raise TypeError("defect")

    async with stage(stores, engine, "asking") as on:
        on.replicas[0].parley.turns.say = say  # type: ignore[assignment,method-assign]
        verdict = await on.judge([await on.clients.run(PLAN)])
    assert (verdict.ok, verdict.refused, verdict.wrongs["unexpected_errors"]) == (0, 0, 1)
    assert "TypeError('defect')" in verdict.found[0]


async def test_an_error_out_of_following_is_found(stores: Stores, engine: EngineHost) -> None:
    async with stage(stores, engine, "following") as on:
        count = len(on.replicas)
        for replica in on.replicas:
            replica.parley.viewer.follow = broken_once(replica.parley.viewer.follow)  # type: ignore[method-assign]
        verdict = await on.judge([await on.clients.run(PLAN)])
    assert (verdict.ok, verdict.wrongs["unexpected_errors"]) == (0, count)
    assert "AttributeError('defect')" in verdict.found[0]


@pytest.mark.parametrize("stores", ["embedded"], indirect=True)
async def test_what_a_killed_process_raises_is_no_finding(stores: Stores, engine: EngineHost) -> None:
    """Not even while its tasks still end."""
    async with stage(stores, engine, "killed") as on:
        replica = on.replicas[0]

        async def say(*_: object) -> None:
            replica.life.cut()
            replica.lose(kill=True)
            raise TypeError("a half of something that is gone")

        replica.parley.turns.say = say  # type: ignore[assignment,method-assign]
        verdict = await on.judge([await on.clients.run(PLAN)])
    assert (verdict.ok, verdict.found) == (1, [])


def broken_once(follow: Any) -> Any:
    """A way to follow answers that is broken for whoever comes first."""
    met: list[str] = []

    async def following(generation_id: str, offset: int = 0) -> AsyncGenerator[Any, None]:
        if not met:
            met.append(generation_id)
            raise AttributeError("defect")
        async for update in follow(generation_id, offset):
            yield update

    return following
