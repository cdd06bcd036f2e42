"""How long everything in this process waits for the event loop. It does not know for what.

Whatever holds the loop (work that belongs beside it, a flood of messages, a machine without a core to spare) delays
every page and every answer of the process alike.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat_app.data.cancel import cancelled
from chat_app.telemetry.metrics import LOOP_DELAY

LOOK_S = 0.02
"""Between two looks. A delay that begins between them is seen shorter, by this much at most."""


@asynccontextmanager
async def watched_loop() -> AsyncIterator[None]:
    """Measure the running loop for as long as the block lasts."""
    watch = asyncio.create_task(_watch(), name="loop-delay")
    try:
        yield
    finally:
        await cancelled(watch)


async def _watch() -> None:
    now = asyncio.get_running_loop().time
    while True:
        due = now() + LOOK_S
        await asyncio.sleep(LOOK_S)
        LOOP_DELAY.observe(max(0.0, now() - due))
