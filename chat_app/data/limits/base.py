"""Rate limits and concurrency, counted where all replicas see the same count.

It does not know tiers or prices: the caller names a key and the numbers.
"""

from typing import Protocol


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

    async def enter(self, key: str, member: str, most: int, ttl_ms: int) -> bool:
        """Occupy one of `most` places (a member entering again only renews). The place frees itself after `ttl_ms`."""
        ...

    async def leave(self, key: str, member: str) -> None: ...
