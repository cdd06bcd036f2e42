"""Ties a worker's life to the process that started it. It does not know what the worker does."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_S = 1.0


@asynccontextmanager
async def with_parent() -> AsyncIterator[None]:
    """While this lasts, the process ends soon after its parent has: a server that was killed outright (`kill -9`)
    leaves no worker behind that holds its port and its home directory."""
    watch = asyncio.create_task(_end_after(os.getppid()))
    try:
        yield
    finally:
        watch.cancel()


async def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
