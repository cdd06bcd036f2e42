"""The body of a chat completion: when it is read, and where it is made sense of.

A small one is read and understood at once. A large one costs memory until it is understood, and then hundreds of
milliseconds of work: of one person only a few are read at a time, the others wait unread for a while, and the work is
done beside the event loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from chat_app.gateway.connection import Connection
from chat_app.gateway.edge import declared
from chat_app.gateway.errors import ApiError
from chat_app.turn.aside import aside

T = TypeVar("T")

SMALL = 65_536
"""Bytes of a body that is understood on the event loop, in a few milliseconds at worst."""
LARGE_AT_ONCE = 4
"""Large bodies of one person that are being read."""
WAIT_S = 10.0
"""How long a large body waits for others of its person. It has a place among the running answers from its admission on,
which nothing renews before it is read: this and `BODY_S` have to be over well before that lapses. And as long as its
body is unread, nobody hears that a program has hung up."""
RETRY_S = 5.0


class Bodies:
    """Reads bodies of up to `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def read(self, connection: Connection, length: int | None, whose: str, understand: Callable[[bytes], T]) -> T:
        """What `understand` makes of the body; what it raises is raised here. `length` is what was declared, None if
        nothing was. Raises what `Connection.body` raises, and `ApiError` if others of this person take too long."""
        if length is not None and length <= SMALL:
            return understand(await connection.body(SMALL))
        turns = self._turns.get(whose)
        if turns is None:
            turns = self._turns[whose] = asyncio.Semaphore(LARGE_AT_ONCE)
        try:
            async with asyncio.timeout(WAIT_S):
                await turns.acquire()
        except TimeoutError:
            message = "Your other large requests are still being read. Try again in a moment."
            raise ApiError(429, "too_many_bodies", message, retry_after=RETRY_S) from None
        try:
            return await aside(partial(understand, await connection.body(self._most)))
        finally:
            turns.release()


def expected(headers: Mapping[bytes, bytes]) -> int | None:
    """How many bytes the body will have; None if its sender does not say, or waits to be told to send it."""
    if b"transfer-encoding" in headers or b"expect" in headers:
        return None
    return declared(headers) if headers.get(b"content-length", b"0").isdigit() else None
