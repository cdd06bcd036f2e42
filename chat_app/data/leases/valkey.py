"""Leases in Valkey or Redis, for any number of processes. The server's clock decides when one has run out."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.valkey import PREFIX, connect, reached

LEASE = PREFIX + "lease:"
FENCE = PREFIX + "fence"

# KEYS: lease, fence. ARGV: owner, ttl in ms, floor. One rising number serves all leases.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
local number, floor = redis.call('INCR', KEYS[2]), tonumber(ARGV[3])
if number <= floor then
  number = floor + 1
  redis.call('SET', KEYS[2], string.format('%.0f', number))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return number
"""

# KEYS: leases. ARGV: owner, ttl in ms. Answers 1 for each that the owner still holds.
_RENEW = """
local answers = {}
for i, key in ipairs(KEYS) do
  answers[i] = 0
  if redis.call('GET', key) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
    answers[i] = 1
  end
end
return answers
"""

# KEYS: lease. ARGV: owner.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class ValkeyLeases:
    """`url` names one server, or a primary. Its memory may be lost: then `floor` keeps the numbers rising."""

    def __init__(self, url: str) -> None:
        # Each of these may be carried out twice without harm, so a stale connection is no reason to fail.
        self._client = connect(url, connections=4, attempts=3)
        self._acquire = self._client.register_script(_ACQUIRE)
        self._renew = self._client.register_script(_RENEW)
        self._release = self._client.register_script(_RELEASE)

    async def start(self) -> None:
        """Raises `LeasesUnavailable`."""
        with _reached():
            await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()

    async def acquire(self, name: str, owner: str, ttl_ms: int, floor: int = 0) -> int | None:
        number = await self._call(self._acquire, [LEASE + name, FENCE], [owner, ttl_ms, floor])
        return None if number is None else int(number)

    async def renew(self, names: Sequence[str], owner: str, ttl_ms: int) -> set[str]:
        if not names:
            return set()
        answers = await self._call(self._renew, [LEASE + name for name in names], [owner, ttl_ms])
        return {name for name, held in zip(names, answers, strict=True) if held}

    async def release(self, name: str, owner: str) -> None:
        await self._call(self._release, [LEASE + name], [owner])

    async def held(self, names: Sequence[str]) -> set[str]:
        if not names:
            return set()
        with _reached():
            owners = await self._client.mget([LEASE + name for name in names])
        return {name for name, owner in zip(names, owners, strict=True) if owner is not None}

    async def _call(self, script: Any, keys: list[str], args: list[Any]) -> Any:
        with _reached():
            return await script(keys=keys, args=args)


def _reached() -> AbstractContextManager[None]:
    return reached(LeasesUnavailable, "the leases")
