"""Carrying an answer to a program that waits for it: the pieces to the socket, and the word that it hung up.

It knows neither the shape of what is sent (its callers frame it) nor what a hang-up means for the answer.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.types import Receive

from chat_app.data.log.base import Piece

KEEP_ALIVE_S = 15.0
"""Silence after which a comment is sent, so that proxies between us and the program keep the connection."""


class HungUp(Exception):
    """The program closed its connection."""


async def carry(
    pieces: AsyncGenerator[Piece, None],
    deliver: Callable[[Piece], Awaitable[None]],
    receive: Receive,
    keep_alive: Callable[[], Awaitable[None]] | None = None,
) -> str | None:
    """Deliver every piece and answer the generation's final status (None if the answer is unknown).

    Raises `HungUp` as soon as the program is gone; `keep_alive` is called in longer silences.
    """
    last = time.monotonic()

    async def run() -> str | None:
        nonlocal last
        async with aclosing(pieces):
            async for piece in pieces:
                await deliver(piece)
                last = time.monotonic()
                if piece.end is not None:
                    return piece.end
        return None

    # Two tasks for the whole answer rather than a wait for either at each piece: this is the hot path.
    running = asyncio.create_task(run())
    hanging_up = asyncio.create_task(_gone(receive))
    try:
        while not running.done():
            await asyncio.wait({running, hanging_up}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if hanging_up.done() and not running.done():
                raise HungUp
            if keep_alive is not None and not running.done() and time.monotonic() - last >= KEEP_ALIVE_S:
                await keep_alive()
        return running.result()
    except OSError as error:  # Some servers say it at the next write.
        raise HungUp from error
    finally:
        running.cancel()
        hanging_up.cancel()
        await asyncio.gather(running, hanging_up, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
