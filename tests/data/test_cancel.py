"""Background tasks end, whatever becomes of a cancellation on its way."""

import asyncio
from contextlib import suppress

import pytest

from chat_app.data import cancel
from chat_app.data.cancel import cancelled


async def test_a_swallowed_cancellation_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "AGAIN_S", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancelled(task)
    assert task.cancelled() and swallowed == 2


async def test_wait_for_swallows_a_cancellation_on_this_python_or_it_does_not() -> None:
    """Why there is `cancelled`: a task that loops over `asyncio.wait_for` is ended by it on every Python."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rounds = 0

    async def looping() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(done if rounds == 1 else asyncio.sleep(60), 120)

    task = asyncio.create_task(looping())
    await asyncio.sleep(0)
    done.set_result(None)  # What it waits for is done, and in the same turn of the loop it is cancelled.
    async with asyncio.timeout(10):
        await cancelled(task)
    assert task.cancelled()


async def test_what_tasks_raise_is_dropped_and_nobody_is_forgotten() -> None:
    ended = []

    async def cleaning(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(name)
            raise RuntimeError(name)

    tasks = [asyncio.create_task(cleaning(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    await cancelled(None, *tasks)
    assert sorted(ended) == ["a", "b"]
