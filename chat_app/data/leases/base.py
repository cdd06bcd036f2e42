"""Leases: who holds a named thing now, until it is released or its time is over.

A lease is advice. An owner that could not renew in time must assume that another has taken it; what keeps its late
writes out is the fence of whatever it writes to. It does not know what is leased.
"""

from collections.abc import Iterable
from typing import Protocol


class LeasesUnavailable(Exception):
    """The store of the leases cannot be reached now. Whether anything was done is unknown, and soon over."""


class Leases(Protocol):
    async def start(self) -> None:
        """Raises `LeasesUnavailable`."""
        ...

    async def close(self) -> None: ...

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        """Take the lease for `ttl_ms` from now, or renew it. False while another owner holds it.

        Raises `LeasesUnavailable`, as all of these do.
        """
        ...

    async def release(self, name: str, owner: str) -> None:
        """Free it early. Nothing happens if another owner holds it by now."""
        ...

    async def held(self, names: Iterable[str]) -> set[str]:
        """Which of these somebody holds now."""
        ...
