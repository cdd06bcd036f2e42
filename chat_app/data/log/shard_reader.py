"""The one task of a process that listens to Valkey: to the shards that its tails need, and to the control stream.

It blocks on all of them at once. What it misses (a trimmed stream, a restarted server, a lost connection) it makes
good by comparing lengths with the store and reading the history again. It does not know who writes.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4
from zlib import crc32

import structlog

from chat_app.data.cancel import cancelled
from chat_app.data.log.base import LogUnavailable
from chat_app.data.log.mirror import Mirror, Mirrors
from chat_app.data.log.valkey_scripts import CONTROL, END, HASH, RESET, SHARD, SHARDS, WAKE
from chat_app.data.valkey import connect, not_now

BLOCK_S = 5.0
"""Longest wait for news; after it, what has been quiet is compared with the store."""
MOST_POSTS = 500
WAKE_KEPT_S = 60
"""How long the stream that wakes a reader is kept: of a reader that is gone nothing stays behind."""

logger = structlog.get_logger(__name__)


def shard_of(generation: str) -> int:
    return crc32(generation.encode()) % SHARDS


class ShardReader:
    """Feeds the mirrors that are not written in this process.

    For those that are, it calls `stop` when a stop was requested, and `disown` with the fence under which they are
    written when another owner has them, or when they have ended.
    """

    def __init__(
        self,
        url: str,
        mirrors: Mirrors,
        stop: Callable[[str], None],
        disown: Callable[[str, int], None],
    ) -> None:
        self.process = uuid4().hex
        self._client = connect(url, connections=1, reply_s=BLOCK_S + 5.0)
        self._side = connect(url, connections=2)
        self._mirrors = mirrors
        self._stop = stop
        self._disown = disown
        self._wake = WAKE + self.process
        self._positions: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises `LogUnavailable`."""
        try:
            await self._seek()
        except Exception as error:
            if not_now(error):
                raise LogUnavailable(f"the generation log cannot be reached: {error}") from error
            raise
        self._task = asyncio.create_task(self._run(), name="generation log reader")

    async def close(self) -> None:
        await cancelled(self._task)
        await self._client.aclose()
        await self._side.aclose()

    async def watch(self, generation: str, since: str) -> None:
        """Listen to this generation's shard, from the post `since` on if it is not listened to yet."""
        shard = f"{SHARD}{shard_of(generation)}"
        if shard not in self._positions:
            self._positions[shard] = since
            # The reader may be blocked without this shard. A stream of its own wakes it, however the two race.
            await self._side.xadd(self._wake, {"w": ""}, maxlen=1)
            await self._side.expire(self._wake, WAKE_KEPT_S)

    async def _run(self) -> None:
        # By hand: what is tried again is to listen, which ends only by failing, and the pause starts over with each
        # loss. tenacity counts attempts until a success.
        lost = False
        pause = 0.05
        while True:
            try:
                if lost:
                    await self._seek()
                    await self._compare(quiet_only=False)
                    logger.info("generation log reached again")
                    lost, pause = False, 0.05
                await self._listen()
            except Exception as error:
                if not not_now(error):
                    logger.exception("generation log reader failed")
                elif not lost:
                    logger.warning("generation log lost", error=str(error))
                lost = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _seek(self) -> None:
        """Begin with the control stream's end; after a loss, start over with streams that the server has lost."""
        for name in {CONTROL, *self._positions} - {self._wake}:
            last = await self._client.xrevrange(name, count=1)
            newest = last[0][0].decode() if last else "0-0"
            position = self._positions.get(name)
            if position is None:
                self._positions[name] = newest
            elif _order(newest) < _order(position):
                self._positions[name] = "0-0"
        self._positions[self._wake] = "0-0"

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        compared = loop.time()
        while True:
            self._forget_unneeded()
            news = await self._client.xread(dict(self._positions), count=MOST_POSTS, block=int(BLOCK_S * 1_000))
            for stream, posts in news:
                name = stream.decode()
                for _, fields in posts:
                    if name == CONTROL:
                        self._obey(fields)
                    elif name != self._wake:
                        self._feed(fields)
                self._positions[name] = posts[-1][0].decode()
            if loop.time() - compared > BLOCK_S:
                await self._compare(quiet_only=True)
                compared = loop.time()

    def _forget_unneeded(self) -> None:
        needed = {
            f"{SHARD}{shard_of(generation)}"
            for generation, mirror in self._mirrors.items()
            if mirror.fence is None and mirror.waiters
        }
        needed.update((CONTROL, self._wake))
        for name in self._positions.keys() - needed:
            del self._positions[name]

    def _obey(self, fields: dict[bytes, bytes]) -> None:
        for order, about in fields.items():
            if order == b"stop":
                self._stop(about.decode())
            elif order == b"taken":
                generation, _, fence = about.decode().rpartition(":")
                mirror = self._mirrors.get(generation)
                if mirror is not None and mirror.fence is not None and mirror.fence < int(fence):
                    self._disown(generation, mirror.fence)

    def _feed(self, fields: dict[bytes, bytes]) -> None:
        for field, text in fields.items():
            generation, offset, kind, *status = field.decode().split(":", 3)
            mirror = self._mirrors.get(generation)
            if mirror is None or mirror.fence is not None:
                continue  # nobody here looks, or it is written here: then the flush has fed it
            if kind == RESET:
                mirror.reset()
                mirror.loaded = False
                self._mirrors.refresh(generation, mirror)
            elif not mirror.feed(int(offset), text.decode(), status[0] if kind == END else None) and mirror.loaded:
                self._mirrors.refresh(generation, mirror)

    async def _compare(self, *, quiet_only: bool) -> None:
        """Ask the store how far each mirror should be; `quiet_only` leaves out those that moved since the last time."""
        asked = [
            (generation, mirror)
            for generation, mirror in self._mirrors.items()
            if mirror.loaded and not (quiet_only and mirror.moved())
        ]
        for begin in range(0, len(asked), MOST_POSTS):
            part = asked[begin : begin + MOST_POSTS]
            async with self._client.pipeline(transaction=False) as pipe:
                for generation, _ in part:
                    pipe.hmget(HASH + generation, "f", "n", "s", "stop")
                found: Iterable[Any] = await pipe.execute()
            for (generation, mirror), (fence, length, status, stop) in zip(part, found, strict=True):
                self._settle(
                    generation, mirror, int(fence or 0), int(length or 0), status is not None, stop is not None
                )

    def _settle(self, generation: str, mirror: Mirror, fence: int, length: int, ended: bool, stop: bool) -> None:
        if mirror.fence is not None:
            if stop:
                self._stop(generation)
            # Ended, but not as far as is known here: the acknowledgement of the end was lost.
            if fence > mirror.fence or (ended and mirror.end is None):
                self._disown(generation, mirror.fence)
        elif (
            length > mirror.length
            or (ended and mirror.end is None)
            or f"{SHARD}{shard_of(generation)}" not in self._positions
        ):
            self._mirrors.refresh(generation, mirror)


def _order(post: str) -> tuple[int, ...]:
    return tuple(int(part) for part in post.split("-"))
