"""The queue before argon2: bounded, fair between those who wait, and left by whoever goes away.

It does not know what is hashed. One process has one for its accounts, and it belongs to one event loop.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from chat_app.accounts.identity import AccountError

T = TypeVar("T")

AT_ONCE = 2
"""argon2 releases the GIL. Two at a time bound what a flood of sign-ins can take: two cores and 92 MiB."""
MOST, RESERVED = 64, 16
"""How many may wait, and how many of those places are only for devices that have signed in before."""
BUSY_S = 5
"""Seconds after which somebody who found no place should try again: a full queue takes about that long."""

# Of the whole process: other queues, such as a test's, wait for the same threads.
_THREADS = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="argon2")


class HashQueue:
    """Lanes take turns, one place each time around: a flood from one address delays another's by one place."""

    def __init__(self, most: int = MOST, reserved: int = RESERVED) -> None:
        self._most, self._reserved = most, reserved
        self._running = 0
        self._lanes: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(self, lane: str, work: Callable[[], T], *, known: bool = False) -> T:
        """What `work` returns, from a thread. `lane`: whose turn it takes, such as a network address; `known`: it may
        wait in a reserved place. Raises `AccountError` (busy), and what `work` raises.

        Cancelled while it waits, it leaves the queue; later the thread goes on, and keeps its place until it has ended.
        """
        await self._turn(lane, known)
        loop = asyncio.get_running_loop()

        def ended(_: Future[T]) -> None:
            with suppress(RuntimeError):  # The loop was closed meanwhile, and with it this queue.
                loop.call_soon_threadsafe(self._pass_on)

        running = _THREADS.submit(work)
        running.add_done_callback(ended)
        return await asyncio.wrap_future(running)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._lanes.values()))

    async def _turn(self, lane: str, known: bool) -> None:
        """Wait for a place among those that run."""
        if self._running < AT_ONCE:
            self._running += 1
            return
        if self.waiting >= self._most - (0 if known else self._reserved):
            self._make_room(lane)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(lane, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(lane, turn)
            elif turn.exception() is None:  # Its turn had come in the same moment.
                self._pass_on()
            raise

    def _make_room(self, lane: str) -> None:
        """Send the last of the longest lane away, if that one is longer than the newcomer's would be; else refuse."""
        longest = max(self._lanes.values(), key=len, default=deque())
        if len(longest) <= len(self._lanes.get(lane, ())) + 1:
            raise _busy()
        turn = longest.pop()
        if not turn.done():
            turn.set_exception(_busy())

    def _leave(self, lane: str, turn: asyncio.Future[None]) -> None:
        turns = self._lanes.get(lane)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._lanes[lane]

    def _pass_on(self) -> None:
        """A place is free: the next lane's first has it."""
        while self._lanes:
            lane, turns = next(iter(self._lanes.items()))
            turn = turns.popleft()
            self._lanes.move_to_end(lane)
            if not turns:
                del self._lanes[lane]
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1


def _busy() -> AccountError:
    message = f"Parley is busy with other sign-ins. Wait {BUSY_S} seconds and try again."
    return AccountError("busy", message, BUSY_S)
