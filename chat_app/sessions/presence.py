"""Presence: the one lease of this process, and which other owners have none any more.

It is slow to call anybody dead. If the leases' store could not be reached, or our own lease is gone from it (the store
was restarted, or this machine slept), then the others' leases may be gone for the same reason: they get one time to
live to come back. It does not know what is owned.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from chat_app.data.leases.base import Leases, LeasesUnavailable


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to wait, from `since` on (seconds of the monotonic clock)."""

    since: float
    seconds: float

    @classmethod
    def of(cls, seconds: float) -> "Pause":
        """One that begins now."""
        return cls(time.monotonic(), seconds)

    @property
    def over(self) -> bool:
        # A clock that was set back must not make a pause endless.
        return not 0 <= time.monotonic() - self.since < self.seconds


class Presence:
    """Says that `owner` lives, as long as `renew` is called more often than every `ttl_ms`."""

    def __init__(self, leases: Leases, owner: str, ttl_ms: int) -> None:
        self._leases = leases
        self._owner = owner
        self._ttl_ms = ttl_ms
        self._own = _lease_of(owner)
        self._known = False
        """Whether our lease should be in the store."""
        self._reached = True
        self._doubt: Pause | None = None

    async def renew(self) -> None:
        """Take our lease, or renew it. Raises `LeasesUnavailable`."""
        await self._held(())
        try:
            self._known = await self._leases.hold(self._own, self._owner, self._ttl_ms)
        except LeasesUnavailable:
            self._reached = False
            raise
        if not self._reached:
            self._reached = True
            self._wait()

    async def dead(self, owners: Iterable[str]) -> list[str]:
        """Those of the other owners that hold no lease; while that is in doubt, none. Raises `LeasesUnavailable`."""
        if not self._reached:
            return []
        others = {_lease_of(owner): owner for owner in owners if owner != self._owner}
        held = await self._held(others)
        if self._doubt is not None:
            if not self._doubt.over:
                return []
            self._doubt = None
        return [owner for lease, owner in others.items() if lease not in held]

    async def release(self) -> None:
        """Say that we are gone, so that others go on at once."""
        with suppress(LeasesUnavailable):  # It runs out by itself.
            await self._leases.release(self._own, self._owner)

    async def _held(self, leases: Iterable[str]) -> set[str]:
        try:
            held = await self._leases.held([*leases, self._own])
        except LeasesUnavailable:
            self._reached = False
            raise
        if self._known and self._own not in held:
            self._known = False
            self._wait()
        return held

    def _wait(self) -> None:
        self._doubt = Pause.of(self._ttl_ms / 1000)


def _lease_of(owner: str) -> str:
    return f"process:{owner}"
