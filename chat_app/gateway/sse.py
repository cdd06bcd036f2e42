"""Server-sent events: an answer's updates on their way to a program, and a comment in its silences.

It does not know what an event looks like: its callers encode them.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from chat_app.gateway.connection import Connection
from chat_app.sessions.viewer import Update

EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
)
COMMENT = b": still here\n\n"
KEEP_ALIVE_S = 15.0
"""Silence after which a comment is sent, so that proxies between us and the program keep the connection."""


async def relay(
    updates: AsyncGenerator[Update, None], connection: Connection, encode: Callable[[Update], bytes]
) -> str | None:
    """Send every update as `encode` has it (nothing where that is empty), each in one write.

    Returns the generation's final status, or None if it is unknown. Raises `HungUp` and whatever `updates` raises.
    """
    last = time.monotonic()
    async with aclosing(updates):
        async for update in updates:
            data = encode(update)
            if not data and update.end is None and time.monotonic() - last >= KEEP_ALIVE_S:
                data = COMMENT  # An update without entries is the viewer's sign of life in a silence.
            if data:
                await connection.write(data)
                last = time.monotonic()
            if update.end is not None:
                return update.end
    return None
