"""Connections to Valkey or Redis for the generation log, leases and limits. Knows no key.

One server (or a primary with replicas and failover) is meant, not a cluster: a script touches keys of many slots.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

PREFIX = "parley:"
CONNECT_S = 2.0
REPLY_S = 5.0

_NOT_NOW = (BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, TimeoutError)
_NOT_NOW_WORDS = ("MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "BUSY", "OOM", "LOADING", "READONLY")


def connect(url: str, *, connections: int = 8, reply_s: float = REPLY_S, attempts: int = 1) -> Any:
    """A client of redis-py, typed as Any since its own types are wrong in places. It returns bytes.

    `url` begins with redis://, rediss://, unix:// or valkey://; connections are made when they are needed. With
    more than one attempt a command may be carried out twice, when its reply was lost.
    """
    if url.startswith("valkey"):
        url = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), attempts - 1) if attempts > 1 else Retry(NoBackoff(), 0)
    over_tcp = {} if url.startswith("unix") else {"socket_keepalive": True, "socket_connect_timeout": CONNECT_S}
    pool = BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=REPLY_S, socket_timeout=reply_s, retry=retry, **over_tcp
    )
    return Redis.from_pool(pool)


class HeldScript:
    """One Lua script on a connection of its own, for a hot path: half the cost of a call through the pool.

    One call at a time; its arguments follow no keys. After an error the next call connects anew. It ends with
    `client`.
    """

    def __init__(self, client: Any, script: str) -> None:
        self._client = client
        self._script = script
        self._sha = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._connection: Any = None

    async def __call__(self, *args: str | bytes) -> Any:
        """The script's reply. Raises what redis-py raises; the script may have run then (see `not_now`).

        redis-py closes a connection whose reply it did not read to its end, whatever the reason: a reply that comes
        later is never taken for that of the next call.
        """
        if self._connection is None:
            self._connection = await self._client.connection_pool.get_connection()
        await self._connection.send_command("EVALSHA", self._sha, 0, *args)
        try:
            return await self._connection.read_response()
        except NoScriptError:  # a server that has restarted: it has run nothing
            await self._connection.send_command("EVAL", self._script, 0, *args)
            return await self._connection.read_response()


def not_now(error: BaseException) -> bool:
    """Whether the server cannot be reached or cannot take this now, rather than that we asked for nonsense."""
    if isinstance(error, _NOT_NOW) or (isinstance(error, OSError) and not isinstance(error, RedisError)):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_NOT_NOW_WORDS)


@contextmanager
def reached(unavailable: type[Exception], what: str) -> Iterator[None]:
    """Has errors that mean "not now" raised as `unavailable`; `what` is a plural: "the leases"."""
    try:
        yield
    except Exception as error:
        if not_now(error):
            raise unavailable(f"{what} cannot be reached: {error}") from error
        raise
