"""Gathers the pieces of an answer into frames, at a pace that a browser and a slow line can follow.

The first piece is shown at once. Then a frame comes every 40 ms at most, and less often the longer the text is that
each frame has to send anew. It does not know what a frame does to the page.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from chat_app.data.log.base import Piece

FRAME_S = 0.04
TAIL_CHARS_PER_S = 100_000
"""How much of an unfinished block is sent again per second: a page's budget of bytes and of rendering."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Text that came since the last frame. `end` is set on the last one: the generation's final status."""

    text: str
    end: str | None


def pause(tail: int) -> float:
    """Seconds until the next frame when each sends a tail of so many characters."""
    return max(FRAME_S, tail / TAIL_CHARS_PER_S)


async def frames(pieces: AsyncGenerator[Piece, None], tail: Callable[[], int]) -> AsyncGenerator[Frame, None]:
    """Frames of the pieces' text, all of it, in order. `tail` tells the length of what the page must send again.

    Closing it closes `pieces`.
    """
    loop = asyncio.get_running_loop()
    due = 0.0
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await coming) is not None:
            text, end = piece.text, piece.end
            while end is None:
                coming = asyncio.ensure_future(anext(pieces, None))
                # A piece that is there already joins this frame; one that comes in time does, too.
                done, _ = await asyncio.wait({coming}, timeout=max(0.0, due - loop.time()))
                if not done or (piece := coming.result()) is None:
                    break
                text, end = text + piece.text, piece.end
            yield Frame(text, end)
            if end is not None:
                return
            due = loop.time() + pause(tail())
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pieces.aclose()
