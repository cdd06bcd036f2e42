"""Who may run now and who waits: first come, first served, over slots and a shared number of KV tokens.

Knows nothing of engines or models. Anything else with `place`, `waiting` and `retry_after` can stand here instead.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from inference.protocol import Overloaded, Request


@dataclass(slots=True, eq=False)
class _Waiter:
    tokens: int
    admitted: asyncio.Future[None]


class Admission:
    """At most `slots` jobs at once that hold at most `kv_tokens` together (0: no such limit); at most `limit` wait."""

    def __init__(self, slots: int, kv_tokens: int, limit: int) -> None:
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._limit = limit
        self._queue: deque[_Waiter] = deque()
        self._running = 0
        self._held = 0
        self._job_s = 1.0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def retry_after(self) -> float:
        """Seconds until a place in the queue should be free, going by how long jobs took lately."""
        return max(1.0, round(self._job_s * (len(self._queue) + 1) / self._slots, 1))

    @asynccontextmanager
    async def place(self, request: Request, tokens: int) -> AsyncIterator[None]:
        """A place to run `request`, which may hold up to `tokens` tokens; waits in the queue for it.

        Raises `Overloaded` at once when the queue is full. Whoever is cancelled while waiting is gone at once.
        """
        if self._queue or not self._fits(tokens):
            await self._wait(tokens)
        else:
            self._admit(tokens)
        began = time.monotonic()
        try:
            yield
        finally:
            self._job_s += 0.1 * (time.monotonic() - began - self._job_s)
            self._release(tokens)

    async def _wait(self, tokens: int) -> None:
        if len(self._queue) >= self._limit:
            raise Overloaded(f"the engine is busy and {self._limit} requests wait already", self.retry_after)
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if not waiter.admitted.cancelled():
                self._release(tokens)  # It was let in at the very moment in which it gave up.
            elif waiter in self._queue:
                self._queue.remove(waiter)
                self._let_in()  # It may have been the one at the head that was too big.
            raise

    def _fits(self, tokens: int) -> bool:
        if self._running >= self._slots:
            return False
        return not self._kv_tokens or not self._running or self._held + tokens <= self._kv_tokens

    def _admit(self, tokens: int) -> None:
        self._running += 1
        self._held += tokens

    def _release(self, tokens: int) -> None:
        self._running -= 1
        self._held -= tokens
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and (self._queue[0].admitted.cancelled() or self._fits(self._queue[0].tokens)):
            waiter = self._queue.popleft()
            if not waiter.admitted.cancelled():
                self._admit(waiter.tokens)
                waiter.admitted.set_result(None)
