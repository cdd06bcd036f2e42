"""Rate limits and concurrency, counted where all replicas see the same count.

It does not know tiers or prices: the caller names a key and the numbers.
"""

from collections.abc import Sequence
from typing import Protocol

Place = tuple[str, str]
"""A key and the member that is in it."""


class LimitsUnavailable(Exception):
    """The store of the limits cannot be reached now."""


class Limits(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hit(self, key: str, per_minute: int, burst: int | None = None) -> int:
        """Count one event against a GCRA limit. 0 if it is within the limit, else milliseconds until it would be.

        `burst` events may come at once (default: `per_minute`). A refused event is not counted.
        """
        ...

    async def enter(self, key: str, member: str, most: int | None, ttl_ms: int) -> bool:
        """Occupy one of `most` places (a member entering again only renews). The place frees itself after `ttl_ms`.

        With None it is occupied in any case, also beyond what others were allowed: for what runs already.
        """
        ...

    async def renew(self, places: Sequence[Place], ttl_ms: int) -> set[Place]:
        """Lengthen the places that are occupied still, in one call; returns those. None is entered anew by this."""
        ...

    async def leave(self, key: str, member: str) -> None: ...
