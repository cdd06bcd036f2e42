"""The generation log: what running answers consist of, encoded as text and appended under its own offset.

An offset counts characters (Unicode code points) of that text: those of the answer and those of the frames around all
else in it (`entries`). A viewer that has read n characters of the log resumes from n. Two rules make it safe. A writer
holds a fencing number, and whoever holds a lower one than the log has seen may not append. An append names the offset
that it continues, and no offset is written twice. What `tail` yields has been stored: nothing reaches a viewer that a
crash could take back.

It does not know what the text means, who may read it, or what it costs.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

QUIET_S = 3.0
FORGOTTEN = 2**53 - 1
"""The fencing number of what was forgotten: no writer's is higher, and every store can count that far."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the log from `offset` on. `end` is set on the last piece: the generation's final status."""

    offset: int
    text: str
    end: str | None = None


class StaleOwner(Exception):
    """Another owner with a higher fencing number has the generation: stop at once, write nothing more."""


class WrongOffset(Exception):
    """The append does not continue the log, which has `length` characters."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the log stands at {length}")
        self.length = length


class LogUnavailable(Exception):
    """The log's store cannot take or give text now (disk full, server gone).

    Whether an append was stored is not known, since its acknowledgement may have been lost: `open` again under the
    same fence says what the log holds, and from then on nothing that was sent before it can be stored any more.
    """


class GenerationLog(Protocol):
    @property
    def durable(self) -> bool:
        """True when what it acknowledged survives the loss of every process (SQLite); False when the owner has to
        checkpoint the text to the database beside it (Valkey)."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def open(self, generation: str, fence: int, text: str = "") -> str:
        """Become the writer under this fencing number; returns the text so far. Raises `StaleOwner`, `LogUnavailable`.

        `text` is what the caller knows: a log that holds less (its store was lost) is restored from it. Opened again
        under the same number, it settles what became of appends whose acknowledgement was lost.
        """
        ...

    def begin(self, generation: str, fence: int) -> None:
        """Become the writer of a new generation, whose log nobody has opened yet, without a round trip.

        The first append makes the log. If there is one by then with text or under a higher number, that append raises
        `WrongOffset` or `StaleOwner`, and `open` says more. A stop that was requested before is seen with it at the
        latest.
        """
        ...

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        """Store text at its offset; returns when it is stored.

        Appends of all generations here share a flush. Raises `StaleOwner`, `WrongOffset`, `LogUnavailable`.
        """
        ...

    async def end(self, generation: str, fence: int, status: str) -> None:
        """Close the log: tails yield a last piece with this status. Idempotent.

        Raises `StaleOwner`, or `LogUnavailable`: then it may have ended or not, and this process is no longer its
        writer. End it again, better after an `open`, which restores what the store may have lost.
        """
        ...

    async def read(self, generation: str, offset: int = 0) -> Piece:
        """All text stored from `offset`, in one piece; `end` set if it is closed. Empty for an unknown generation."""
        ...

    def tail(self, generation: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        """Yield the text from `offset` on, in order, each character once, until a piece with `end`.

        The last piece begins where the log ends: an offset behind the tail's own position says that the store has
        lost the text between. An empty piece without `end` is a sign of life in a silence of `QUIET_S` and longer:
        then its reader may ask elsewhere what became of the answer.
        One reader per process serves all tails. A tail that its consumer leaves (aclose) is forgotten at once.
        A slow consumer gets what it missed as one larger piece; nothing piles up for it.
        """
        ...

    async def request_stop(self, generation: str) -> None:
        """Ask the owner, whichever process that is, to stop. Reaches it within milliseconds; lost if there is none."""
        ...

    def stop_requested(self, generation: str) -> asyncio.Event:
        """Owner's side: an event set once someone has requested a stop. Valid from `open` or `begin` to `end`."""
        ...

    async def forget(self, generations: Sequence[str]) -> None:
        """Remove all that is stored of these for good. Whoever still writes one, or comes to, gets `StaleOwner`: what a
        writer remembers of a log does not bring it back. Again changes nothing. Raises `LogUnavailable`."""
        ...

    async def sweep(self) -> None:
        """Remove what is past its time: an hour after its last write for what has ended. Raises `LogUnavailable`."""
        ...

    async def wipe(self) -> None:
        """Remove what was forgotten or swept from files too, as `Database.wipe`. Raises `LogUnavailable`."""
        ...
