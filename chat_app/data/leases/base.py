"""Leases: who may work on a named thing now, each grant under a higher fencing number than the one before.

It does not know what is leased. An owner that cannot renew in time must assume that another has taken over;
the fencing number, not the clock, is what keeps its late writes out.
"""

from collections.abc import Sequence
from typing import Protocol


class LeasesUnavailable(Exception):
    """The store of the leases cannot be reached now. Nothing was granted."""


class Leases(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def acquire(self, name: str, owner: str, ttl_ms: int, floor: int = 0) -> int | None:
        """Take the lease if nobody (or only `owner`) holds it: a fencing number above all earlier ones and `floor`.

        None while another owner holds it. `floor` is the highest number that the caller knows from elsewhere, so that
        numbers keep rising even if the store lost its memory.
        """
        ...

    async def renew(self, names: Sequence[str], owner: str, ttl_ms: int) -> set[str]:
        """Lengthen all that `owner` still holds, in one call; answers the names that it does hold."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give it back early. Nothing happens if another holds it by now."""
        ...

    async def held(self, names: Sequence[str]) -> set[str]:
        """Which of these somebody holds now."""
        ...
