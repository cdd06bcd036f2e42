"""Who may run now and who waits: weighted fair queueing by user, over slots and a shared number of KV tokens.

Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996). Each user has a clock of virtual time that goes on by what
their jobs cost, divided by their tier's weight; the next job let in is the one of whoever's clock is furthest behind.
So whoever asks for much waits behind their own requests, not in front of others. A job is charged its worst case when
it is let in, and what it really took when it ends.

It knows nothing of engines, models or tiers.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from inference.protocol import Overloaded, QueuePosition, Request

SHARE = 0.75
"""What one user may hold of the slots and of the KV tokens while others are about: the rest is there for who comes.
Requests that name no user are the operator's own: they take turns like one user, but have no such bound."""
ABOUT_S = 30.0
"""How long after their last request somebody still counts as being about."""


@dataclass(slots=True, eq=False)
class Place:
    """A job's place at the engine. Whoever runs it counts in `spent` the tokens that it really takes."""

    user: str
    weight: int
    tokens: int
    spent: int = 0
    began_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Waiter:
    id: str
    place: Place
    admitted: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _User:
    waiting: deque[_Waiter] = field(default_factory=deque)
    finish: float = 0.0
    """Their virtual clock."""
    running: int = 0
    held: int = 0
    seen_at: float = 0.0


class FairQueue:
    """At most `slots` jobs at once that hold at most `kv_tokens` together (0: no such limit); at most `limit` wait."""

    def __init__(self, slots: int, kv_tokens: int, limit: int) -> None:
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._limit = limit
        self._users: dict[str, _User] = {}
        self._virtual = 0.0
        self._job_s = 1.0
        self._running: set[Place] = set()
        self.waiting = 0
        self.held = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def retry_after(self) -> float:
        """Seconds until all who wait now should have been let in, and a newcomer is sure to be taken."""
        return max(1.0, round(self._eta(self.waiting + 1), 1))

    @asynccontextmanager
    async def place(self, request: Request, tokens: int) -> AsyncIterator[Place]:
        """A place to run `request`, which may hold up to `tokens` tokens; waits for its turn.

        Raises `Overloaded` when the queue is full, or when its turn does not come within `request.max_wait_ms` (at
        once if that can be foreseen). Whoever is cancelled while waiting is gone at once.
        """
        place = Place(request.user, request.weight, tokens)
        user = self._users.setdefault(place.user, _User())
        user.seen_at = time.monotonic()
        if self.waiting or not self._fits(place, user):
            await self._wait(request, place, user)
        else:
            self._admit(place, user)
        try:
            yield place
        finally:
            self._job_s += 0.1 * (time.monotonic() - place.began_at - self._job_s)
            self._release(place)

    def positions(self) -> dict[str, QueuePosition]:
        """Every waiting job that has an id, in the order in which they would be let in now."""
        return {
            waiter.id: QueuePosition(position, round(self._eta(position), 1))
            for position, waiter in enumerate(self._in_order(), 1)
            if waiter.id
        }

    def _eta(self, position: int) -> float:
        now = time.monotonic()
        longest = max((now - place.began_at for place in self._running), default=0.0)
        return max(self._job_s, longest) * position / self._slots

    async def _wait(self, request: Request, place: Place, user: _User) -> None:
        if self.waiting >= self._limit:
            self._make_room(place, user)
        waiter = _Waiter(request.request_id, place, asyncio.get_running_loop().create_future())
        user.waiting.append(waiter)
        self.waiting += 1
        patience = request.max_wait_ms / 1_000 or None
        try:
            self._let_in()  # Who waits may be at their share's end while there is room for this one.
            if patience is not None and not waiter.admitted.done() and self._foreseen(waiter) > 2 * patience:
                raise TimeoutError
            async with asyncio.timeout(patience):
                await waiter.admitted
        except (asyncio.CancelledError, TimeoutError) as error:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and waiter.admitted.exception() is None:
                self._release(place)  # It was let in at the very moment in which it gave up.
            else:
                self._leave(waiter, user)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"{self.waiting} requests wait, and this one's turn does not come in time", self.retry_after
                ) from error
            raise

    def _foreseen(self, waiter: _Waiter) -> float:
        return self._eta(next(position for position, other in enumerate(self._in_order(), 1) if other is waiter))

    def _leave(self, waiter: _Waiter, user: _User) -> None:
        if waiter in user.waiting:
            user.waiting.remove(waiter)
            self.waiting -= 1
            self._let_in()  # It may have been the one at the head that was too big.
        self._forget()

    def _make_room(self, place: Place, user: _User) -> None:
        """The queue is full: whoever has most in it for their weight gives up their last, or the newcomer does."""
        fattest = max(self._users.values(), key=_crowd, default=user)
        mine = (len(user.waiting) + 1) / place.weight
        if fattest is user or _crowd(fattest) <= mine:
            self._forget()
            raise Overloaded(f"the engine is busy and {self.waiting} requests wait already", self.retry_after)
        last = fattest.waiting.pop()
        self.waiting -= 1
        if not last.admitted.done():
            last.admitted.set_exception(
                Overloaded("the engine is busy, and others who asked for less go first", self.retry_after)
            )

    def _fits(self, place: Place, user: _User) -> bool:
        if self.running >= self._slots or not self._within_share(place, user):
            return False
        return not self._kv_tokens or not self.running or self.held + place.tokens <= self._kv_tokens

    def _within_share(self, place: Place, user: _User) -> bool:
        if not place.user or not user.running or not self._others_about(user):
            return True
        if user.running + 1 > max(1, int(self._slots * SHARE)):
            return False
        return not self._kv_tokens or user.held + place.tokens <= self._kv_tokens * SHARE

    def _others_about(self, user: _User) -> bool:
        since = time.monotonic() - ABOUT_S
        return any(
            name and other is not user and (other.running or other.waiting or other.seen_at > since)
            for name, other in self._users.items()
        )

    def _start(self, user: _User) -> float:
        """The virtual time at which their next job would begin. Whoever was away has saved up nothing."""
        return max(self._virtual, user.finish)

    def _admit(self, place: Place, user: _User) -> None:
        self._virtual = self._start(user)
        user.finish = self._virtual + place.tokens / place.weight
        user.running += 1
        user.held += place.tokens
        place.began_at = time.monotonic()
        self._running.add(place)
        self.held += place.tokens

    def _release(self, place: Place) -> None:
        user = self._users[place.user]
        user.finish += (place.spent - place.tokens) / place.weight
        user.running -= 1
        user.held -= place.tokens
        self._running.discard(place)
        self.held -= place.tokens
        self._let_in()
        if not self.running:  # The end of a busy time: nobody owes anything any more.
            self._virtual = max(self._virtual, *(user.finish for user in self._users.values()))
        self._forget()

    def _let_in(self) -> None:
        while self.waiting:
            ready = [
                user
                for user in self._users.values()
                if user.waiting and self._within_share(user.waiting[0].place, user)
            ]
            if not ready:
                return
            user = min(ready, key=self._start)
            # Nobody smaller slips past whose turn it is, or a big job would wait for ever.
            if not self._fits(user.waiting[0].place, user):
                return
            waiter = user.waiting.popleft()
            self.waiting -= 1
            if not waiter.admitted.done():
                self._admit(waiter.place, user)
                waiter.admitted.set_result(None)

    def _in_order(self) -> Iterator[_Waiter]:
        """Those who wait, in the order in which they would be let in if every job took its worst case."""
        clocks = {name: self._start(user) for name, user in self._users.items() if user.waiting}
        queues = {name: iter(self._users[name].waiting) for name in clocks}
        while clocks:
            name = min(clocks, key=lambda name: clocks[name])
            waiter = next(queues[name], None)
            if waiter is None:
                del clocks[name]
                continue
            clocks[name] += waiter.place.tokens / waiter.place.weight
            yield waiter

    def _forget(self) -> None:
        """Drop users who are not about any more and whose clock is not ahead: nothing would be lost."""
        since = time.monotonic() - ABOUT_S
        for name, user in list(self._users.items()):
            if not (user.running or user.waiting or user.seen_at > since or user.finish > self._virtual):
                del self._users[name]


def _crowd(user: _User) -> float:
    return len(user.waiting) / user.waiting[-1].place.weight if user.waiting else 0.0
