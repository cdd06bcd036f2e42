"""Leases in memory, for one process that holds the home directory alone. They end with it, as they should."""

import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Lease:
    owner: str
    since: float
    ttl_s: float

    def runs(self, now: float) -> bool:
        # A clock that was set back must not make a lease endless.
        return 0 <= now - self.since < self.ttl_s


class MemoryLeases:
    """Needs no start; every call returns at once."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        now = time.monotonic()
        self._leases = {name: lease for name, lease in self._leases.items() if lease.runs(now)}
        lease = self._leases.get(name)
        if lease is not None and lease.owner != owner:
            return False
        self._leases[name] = _Lease(owner, now, ttl_ms / 1000)
        return True

    async def release(self, name: str, owner: str) -> None:
        lease = self._leases.get(name)
        if lease is not None and lease.owner == owner:
            del self._leases[name]

    async def held(self, names: Iterable[str]) -> set[str]:
        now = time.monotonic()
        return {name for name in names if (lease := self._leases.get(name)) is not None and lease.runs(now)}
