"""Gathers the updates of an answer into frames, at a pace that a browser and a slow line can follow.

The first update is shown at once. Then a frame comes every 40 ms at most, and less often the longer the text is that
each frame has to send again. It does not know what a frame does to the page.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

from chat_app.data.log.entries import Entry
from chat_app.sessions.viewer import Update

FRAME_S = 0.04
TAIL_CHARS_PER_S = 100_000
"""How much of an unfinished block is sent again per second: a page's budget of bytes and of rendering."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Entries that came since the last frame, neighbours of one kind as one. A frame without any is a sign of life.

    `end` is set on the last one: the generation's final status.
    """

    entries: tuple[Entry, ...]
    end: str | None


def pause(tail: int) -> float:
    """Seconds until the next frame when each sends a tail of so many characters."""
    return max(FRAME_S, tail / TAIL_CHARS_PER_S)


async def frames(updates: AsyncGenerator[Update, None], tail: Callable[[], int]) -> AsyncGenerator[Frame, None]:
    """Frames of all the entries, in order. `tail` returns the length of what the page must send again.

    Closing it closes `updates`. Raises what `updates` raises.
    """
    loop = asyncio.get_running_loop()
    due = 0.0
    coming = asyncio.ensure_future(anext(updates, None))
    try:
        while (update := await coming) is not None:
            entries, end = list(update.entries), update.end
            while end is None:
                coming = asyncio.ensure_future(anext(updates, None))
                # An update that is there already joins this frame; one that comes in time does, too.
                done, _ = await asyncio.wait({coming}, timeout=max(0.0, due - loop.time()))
                if not done or coming.exception() is not None or (update := coming.result()) is None:
                    break
                entries, end = [*entries, *update.entries], update.end
            yield Frame(tuple(_joined(entries)), end)
            if end is not None:
                return
            due = loop.time() + pause(tail())
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await updates.aclose()


def _joined(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, with neighbouring text, and neighbouring reasoning, as one."""
    made: list[Entry] = []
    for entry in entries:
        if made and made[-1].kind == entry.kind and entry.kind in ("text", "reasoning"):
            made[-1] = Entry(entry.kind, made[-1].text + entry.text)
        else:
            made.append(entry)
    return made
