"""Ending background tasks for certain. Knows no task's work."""

import asyncio

AGAIN_S = 2.0
"""How long a cancelled task may take to clean up before it is cancelled again."""


async def cancelled(*tasks: "asyncio.Task[None] | None") -> None:
    """Cancel these tasks and return when all have ended; what they raise is dropped.

    They are cancelled again and again until then: a library may swallow a cancellation, as `asyncio.wait_for` does up
    to Python 3.11 if what it waits for is done at that moment, and redis-py sends every command through it. A task
    that loops for ever would otherwise be waited for for ever.
    """
    pending = {task for task in tasks if task is not None}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()
