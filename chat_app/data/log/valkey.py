"""The generation log in Valkey or Redis, for any number of processes.

One Lua call per flush checks fence, opening and offset of every append, stores its text and posts it to a shard, where
the readers of the other processes find it; tails in the owner's own process are fed when the call is acknowledged. A
call whose acknowledgement is lost is not repeated here: its writer opens the log again, which settles what became of
it. The server's memory is not durable: the owner checkpoints the text elsewhere and restores a lost log by `open`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

import orjson
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential

from chat_app.data.log import valkey_scripts as scripts
from chat_app.data.log.base import LogUnavailable, Piece, StaleOwner, WrongOffset
from chat_app.data.log.flush import Append, Flusher
from chat_app.data.log.mirror import Mirrors
from chat_app.data.log.shard_reader import ShardReader, shard_of
from chat_app.data.log.stops import Stops
from chat_app.data.valkey import HeldScript, connect, not_now

MOST_APPENDS = 500
MOST_ENDS = 10
"""How often an end is tried on a server that keeps losing the log."""


class ValkeyLog:
    """`url` names one server, or a primary; all processes of one Parley name the same."""

    durable = False

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        self._flush = HeldScript(self._client, scripts.FLUSH)
        self._open = self._client.register_script(scripts.OPEN)
        self._read = self._client.register_script(scripts.READ)
        self._stop = self._client.register_script(scripts.STOP)
        self._forget = self._client.register_script(scripts.FORGET)
        self._flusher = Flusher(self._store)
        self._mirrors = Mirrors(self._history)
        self._stops = Stops()
        self._reader = ShardReader(url, self._mirrors, self._stops.request, self._disown)
        self._openings = count(1)
        self._closed = False

    async def start(self) -> None:
        await self._reader.start()
        self._flusher.start()

    async def close(self) -> None:
        self._closed = True
        await self._flusher.close()
        self._mirrors.close()
        await self._reader.close()
        await self._client.aclose()

    async def open(self, generation: str, fence: int, text: str = "") -> str:
        opening = next(self._openings)
        args = [generation, fence, text.encode(), len(text), shard_of(generation), self._reader.process, opening]
        stop = self._stops.event(generation)  # before the call: no request may fall between it and the event
        try:
            result = await self._call(self._open, args)
            if result == scripts.STALE:
                self._disown(generation, fence)
                raise StaleOwner
        except BaseException:
            self._forget_stop(generation)
            raise
        stored, status, stopped = (part.decode() for part in result)
        self._mirrors.own(generation, fence, stored, status or None).opening = opening
        if stopped:
            stop.set()
        return str(stored)

    def begin(self, generation: str, fence: int) -> None:
        mirror = self._mirrors.own(generation, fence, "", None)
        mirror.begun, mirror.opening = True, next(self._openings)

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        if text:
            await self._flusher.add(self._append(generation, fence, offset, text))

    async def end(self, generation: str, fence: int, status: str) -> None:
        try:
            for _ in range(MOST_ENDS):
                mirror = self._mirrors.get(generation)
                known = mirror.text() if mirror is not None and mirror.fence == fence else ""
                try:
                    return await self._flusher.add(self._append(generation, fence, len(known), "", status))
                except WrongOffset:  # the server has lost the text, or holds more than is known here
                    await self.open(generation, fence, known)
            raise LogUnavailable("the generation log keeps losing its text")
        except LogUnavailable:
            self._disown(generation, fence)
            raise

    async def read(self, generation: str, offset: int = 0) -> Piece:
        text, status, _ = await self._call(self._read, [generation, shard_of(generation)])
        return Piece(offset, text.decode()[offset:], status.decode() or None)

    def tail(self, generation: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        return self._mirrors.tail(generation, offset)

    async def request_stop(self, generation: str) -> None:
        self._stops.request(generation)
        await self._call(self._stop, [generation])

    def stop_requested(self, generation: str) -> asyncio.Event:
        return self._stops.event(generation)

    async def forget(self, generations: Sequence[str]) -> None:
        shards = defaultdict[int, list[str]](list)
        for generation in generations:
            shards[shard_of(generation)].append(generation)
        for shard, ids in shards.items():  # Each for itself: the server does nothing else meanwhile.
            await self._call(self._forget, [shard, *ids])

    async def wipe(self) -> None:
        """It keeps nothing in files that Parley knows of."""

    async def sweep(self) -> None:
        try:
            seconds, _ = await self._client.time()
            for shard in range(scripts.SHARDS):
                past = (seconds - scripts.KEPT_S) * 1_000
                await self._client.xtrim(f"{scripts.SHARD}{shard}", minid=past, approximate=False)
        except Exception as error:
            raise _translated(error) from error

    async def _call(self, script: Any, args: list[Any]) -> Any:
        try:
            return await script(args=args)
        except Exception as error:
            raise _translated(error) from error

    async def _history(self, generation: str) -> Piece:
        """All that is stored, with its shard listened to from there on. Tries until it can, or the log is closed."""

        async def read() -> Piece:
            text, status, last = await self._call(self._read, [generation, shard_of(generation)])
            await self._reader.watch(generation, last.decode())
            return Piece(0, text.decode(), status.decode() or None)

        def again(error: BaseException) -> bool:
            return not self._closed and (isinstance(error, LogUnavailable) or not_now(error))

        wait = wait_exponential(multiplier=0.05, max=1.0)
        return await AsyncRetrying(retry=retry_if_exception(again), wait=wait, reraise=True)(read)

    def _append(self, generation: str, fence: int, offset: int, text: str, status: str | None = None) -> Append:
        mirror = self._mirrors.get(generation)
        opening, begins = 0, False
        if mirror is not None and mirror.fence == fence:
            opening, begins = mirror.opening, mirror.begun and offset == 0
        fields = [generation, fence, opening, offset, len(text), text, status or "", shard_of(generation), int(begins)]
        try:
            data = orjson.dumps(fields)
        except TypeError as error:
            raise ValueError("a text for the log holds a lone surrogate") from error
        return Append(generation, fence, offset, text, data, status, begins=begins)

    async def _store(self, appends: list[Append]) -> None:
        for first in range(0, len(appends), MOST_APPENDS):
            part = appends[first : first + MOST_APPENDS]
            payload = b"[" + b",".join([append.data for append in part]) + b"]"
            try:
                results: list[int] = await self._flush(payload, self._reader.process)
            except Exception as error:
                raise _translated(error) from error
            for append, result in zip(part, results, strict=True):
                self._settle(append, result)

    def _settle(self, append: Append, result: int) -> None:
        if result in (scripts.STORED, scripts.STOPPING):
            if result == scripts.STOPPING:
                self._stops.request(append.generation)
            self._mirrors.stored(append, append.offset)
            if append.status is not None:
                self._disown(append.generation, append.fence)
            append.resolve()
        elif result == scripts.STALE:
            self._disown(append.generation, append.fence)
            append.resolve(StaleOwner())
        else:
            append.resolve(WrongOffset(result))

    def _disown(self, generation: str, fence: int) -> None:
        """It is not written here any more: the tails here, if there are any, follow whoever does it now."""
        mirror = self._mirrors.get(generation)
        if mirror is not None and self._mirrors.disown(generation, fence):
            self._forget_stop(generation)
            if mirror.waiters and mirror.end is None:
                self._mirrors.refresh(generation, mirror)

    def _forget_stop(self, generation: str) -> None:
        mirror = self._mirrors.get(generation)
        if mirror is None or mirror.fence is None:
            self._stops.forget(generation)


def _translated(error: Exception) -> Exception:
    if not_now(error):
        return LogUnavailable(f"the generation log cannot be reached: {error}")
    return error
