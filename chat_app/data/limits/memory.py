"""Limits in memory, for an installation of one process. A restart forgets them.

Memory is bounded: what has run out is swept, and past `MOST` keys the longest untouched go first, which can only
let through more than a key's limit, never less.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence

from chat_app.data.limits.base import Place

MOST = 100_000


class MemoryLimits:
    """Needs no start; every answer is immediate."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._arrivals: OrderedDict[str, float] = OrderedDict()
        """Per key the theoretical arrival time of GCRA, in milliseconds of the monotonic clock."""
        self._places: OrderedDict[str, dict[str, float]] = OrderedDict()
        """Per key the members and when each one's place frees itself."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hit(self, key: str, per_minute: int, burst: int | None = None) -> int:
        if per_minute <= 0:
            return 60_000
        now = _now()
        interval = 60_000 / per_minute
        room = max(1, per_minute if burst is None else burst) * interval
        arrival = max(self._arrivals.get(key, now), now) + interval
        if arrival - now > room:
            return max(1, round(arrival - now - room))
        self._arrivals[key] = arrival
        self._arrivals.move_to_end(key)
        while self._arrivals and (len(self._arrivals) > self._most or next(iter(self._arrivals.values())) <= now):
            self._arrivals.popitem(last=False)
        return 0

    async def enter(self, key: str, member: str, most: int | None, ttl_ms: int) -> bool:
        now = _now()
        members = {other: until for other, until in self._places.get(key, {}).items() if until > now}
        entered = most is None or member in members or len(members) < most
        if entered:
            members[member] = now + ttl_ms
        self._put(key, members)
        self._sweep(now)
        return entered

    async def renew(self, places: Sequence[Place], ttl_ms: int) -> set[Place]:
        now = _now()
        renewed: set[Place] = set()
        for key, member in places:
            members = self._places.get(key, {})
            if members.get(member, now) > now:
                members[member] = now + ttl_ms
                self._places.move_to_end(key)
                renewed.add((key, member))
        return renewed

    async def leave(self, key: str, member: str) -> None:
        members = self._places.get(key)
        if members is not None:
            members.pop(member, None)
            self._put(key, members)

    def _put(self, key: str, members: dict[str, float]) -> None:
        if members:
            self._places[key] = members
            self._places.move_to_end(key)
        else:
            self._places.pop(key, None)

    def _sweep(self, now: float) -> None:
        """Look at the longest untouched key: gone if all its places are free, or if there are too many keys."""
        if not self._places:
            return
        key, members = next(iter(self._places.items()))
        if len(self._places) > self._most or all(until <= now for until in members.values()):
            del self._places[key]


def _now() -> float:
    return time.monotonic() * 1_000
