"""Leases in Valkey or Redis, for any number of processes. The server's clock decides when one is over."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.valkey import PREFIX, connect, reached

LEASE = PREFIX + "lease:"

# KEYS: lease. ARGV: owner, ttl in ms.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: lease. ARGV: owner.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class ValkeyLeases:
    """`url` names one server, or a primary. Its memory may be lost, and every lease with it."""

    def __init__(self, url: str) -> None:
        # Each of these may be carried out twice without harm, so a stale connection is no reason to fail.
        self._client = connect(url, connections=4, attempts=3)
        self._hold = self._client.register_script(_HOLD)
        self._release = self._client.register_script(_RELEASE)

    async def start(self) -> None:
        with _reached():
            await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        with _reached():
            return bool(await self._hold(keys=[LEASE + name], args=[owner, ttl_ms]))

    async def release(self, name: str, owner: str) -> None:
        with _reached():
            await self._release(keys=[LEASE + name], args=[owner])

    async def held(self, names: Iterable[str]) -> set[str]:
        asked = list(names)
        if not asked:
            return set()
        with _reached():
            owners = await self._client.mget([LEASE + name for name in asked])
        return {name for name, owner in zip(asked, owners, strict=True) if owner is not None}


def _reached() -> AbstractContextManager[None]:
    return reached(LeasesUnavailable, "the leases")
