"""Limits in Valkey or Redis: all replicas see one count, by the server's clock. What has run out expires there."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from chat_app.data.limits.base import LimitsUnavailable, Place
from chat_app.data.valkey import PREFIX, connect, reached

RATE = PREFIX + "rate:"
PLACES = PREFIX + "places:"

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# GCRA. KEYS: rate. ARGV: events a minute, burst. Microseconds inside; returns milliseconds to wait, 0 if it passes.
_HIT = (
    _NOW
    + """
local interval = 60000000 / tonumber(ARGV[1])
local room = math.max(1, tonumber(ARGV[2])) * interval
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + interval
if arrival - now > room then return math.max(1, math.ceil((arrival - now - room) / 1000)) end
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0
"""
)

# KEYS: places, a sorted set of members by when each place frees itself. ARGV: member, most ('': no limit), ttl in ms.
_ENTER = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local most = tonumber(ARGV[2])
if most and not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= most then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3] * 1000), ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', KEYS[1], math.ceil((last[2] - now) / 1000))
return 1
"""
)

# KEYS: places, one for each member. ARGV: ttl in ms, then the members. Returns 1 for each that was still in.
_RENEW = (
    _NOW
    + """
local renewed = {}
for i, key in ipairs(KEYS) do
  local until_ = tonumber(redis.call('ZSCORE', key, ARGV[i + 1]) or now)
  renewed[i] = until_ > now and 1 or 0
  if renewed[i] == 1 then
    redis.call('ZADD', key, string.format('%.0f', now + ARGV[1] * 1000), ARGV[i + 1])
    if redis.call('PTTL', key) < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
  end
end
return renewed
"""
)


class ValkeyLimits:
    """`url` names one server, or a primary; all processes of one Parley name the same."""

    def __init__(self, url: str) -> None:
        # A hit whose answer got lost may be counted twice: rather that than refuse on a stale connection.
        self._client = connect(url, connections=16, attempts=3)
        self._hit = self._client.register_script(_HIT)
        self._enter = self._client.register_script(_ENTER)
        self._renew = self._client.register_script(_RENEW)

    async def start(self) -> None:
        """Raises `LimitsUnavailable`."""
        with _reached():
            await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()

    async def hit(self, key: str, per_minute: int, burst: int | None = None) -> int:
        if per_minute <= 0:
            return 60_000
        args = [per_minute, per_minute if burst is None else burst]
        return int(await self._call(self._hit, RATE + key, args))

    async def enter(self, key: str, member: str, most: int | None, ttl_ms: int) -> bool:
        args = [member, "" if most is None else most, ttl_ms]
        return bool(await self._call(self._enter, PLACES + key, args))

    async def renew(self, places: Sequence[Place], ttl_ms: int) -> set[Place]:
        if not places:
            return set()
        with _reached():
            renewed = await self._renew(
                keys=[PLACES + key for key, _ in places], args=[ttl_ms, *(member for _, member in places)]
            )
        return {place for place, still in zip(places, renewed, strict=True) if still}

    async def leave(self, key: str, member: str) -> None:
        with _reached():
            await self._client.zrem(PLACES + key, member)

    async def _call(self, script: Any, key: str, args: list[Any]) -> Any:
        with _reached():
            return await script(keys=[key], args=args)


def _reached() -> AbstractContextManager[None]:
    return reached(LimitsUnavailable, "the limits")
