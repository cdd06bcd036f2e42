"""The generation log in Valkey or Redis, for any number of processes.

One Lua call per flush checks the fence and the offset of every entry, stores its text and posts it to a shard, where
the readers of the other processes find it; tails in the owner's own process are fed when the call has answered. The
server's memory is not durable: the owner checkpoints the text elsewhere and restores a lost log through `open`.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from chat_app.data.log import valkey_scripts as scripts
from chat_app.data.log.base import LogUnavailable, Piece, StaleOwner, WrongOffset
from chat_app.data.log.flush import Entry, Flusher
from chat_app.data.log.mirror import Mirrors
from chat_app.data.log.shard_reader import ShardReader, shard_of
from chat_app.data.valkey import connect, not_now

PATIENCE_S = 3.0
"""How long a flush that cannot reach the server is tried again."""
MOST_ENTRIES = 500


class ValkeyLog:
    """`url` names one server, or a primary; all processes of one Parley name the same."""

    durable = False

    def __init__(self, url: str, flush_ms: int = 20) -> None:
        self._client = connect(url)
        self._flush = self._client.register_script(scripts.FLUSH)
        self._open = self._client.register_script(scripts.OPEN)
        self._read = self._client.register_script(scripts.READ)
        self._stop = self._client.register_script(scripts.STOP)
        self._flusher = Flusher(flush_ms / 1_000, self._store)
        self._mirrors = Mirrors(self._history)
        self._reader = ShardReader(url, self._mirrors, self._stopped, self._taken)
        self._stops: dict[str, asyncio.Event] = {}
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
        args = [generation, fence, text.encode(), len(text), shard_of(generation), self._reader.process]
        stop = self.stop_requested(generation)  # before the call: no request may fall between it and the event
        try:
            answer = await self._call(self._open, args)
            if answer == scripts.STALE:
                raise StaleOwner
        except BaseException:
            self._forget_stop(generation)
            raise
        stored, status, stopped = (part.decode() for part in answer)
        self._mirrors.own(generation, fence, stored, status or None)
        if stopped:
            stop.set()
        return str(stored)

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        if text:
            mirror = self._mirrors.get(generation)
            first = mirror is None or not mirror.flowing
            await self._flusher.add(_entry(generation, fence, offset, text), urgent=first)

    async def end(self, generation: str, fence: int, status: str) -> None:
        while True:
            mirror = self._mirrors.get(generation)
            known = mirror.text() if mirror is not None and mirror.fence == fence else ""
            try:
                await self._flusher.add(_entry(generation, fence, len(known), "", status), urgent=True)
            except WrongOffset:  # the server forgot the text after the last append: bring it back first
                await self.open(generation, fence, known)
            else:
                return

    async def read(self, generation: str, offset: int = 0) -> Piece:
        text, status, _ = await self._call(self._read, [generation, shard_of(generation)])
        return Piece(offset, text.decode()[offset:], status.decode() or None)

    def tail(self, generation: str, offset: int = 0) -> AsyncGenerator[Piece, None]:
        return self._mirrors.tail(generation, offset)

    async def request_stop(self, generation: str) -> None:
        self._stopped(generation)
        await self._call(self._stop, [generation])

    def stop_requested(self, generation: str) -> asyncio.Event:
        return self._stops.setdefault(generation, asyncio.Event())

    async def _call(self, script: Any, args: list[Any]) -> Any:
        try:
            return await script(args=args)
        except Exception as error:
            raise _translated(error) from error

    async def _history(self, generation: str) -> Piece:
        """All that is stored, with its shard listened to from there on. Tries until it can, or the log is closed."""
        pause = 0.05
        while True:
            try:
                text, status, last = await self._call(self._read, [generation, shard_of(generation)])
                await self._reader.watch(generation, last.decode())
                return Piece(0, text.decode(), status.decode() or None)
            except Exception as error:
                if self._closed or not (isinstance(error, LogUnavailable) or not_now(error)):
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _store(self, entries: list[Entry]) -> None:
        for begin in range(0, len(entries), MOST_ENTRIES):
            part = entries[begin : begin + MOST_ENTRIES]
            answers = await self._send(b"[" + b",".join(entry.data for entry in part) + b"]")
            for entry, answer in zip(part, answers, strict=True):
                self._take(entry, answer)

    async def _send(self, payload: bytes) -> list[int]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        sent_before, pause = 0, 0.02
        while True:
            try:
                answers: list[int] = await self._flush(args=[payload, sent_before])
                return answers
            except Exception as error:
                if loop.time() > deadline or self._closed or not not_now(error):
                    raise _translated(error) from error
            # The call may have been carried out all the same: the script then knows its own text again.
            sent_before = 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _take(self, entry: Entry, answer: int) -> None:
        if answer == scripts.STORED:
            mirror = self._mirrors.get(entry.generation)
            if mirror is not None and mirror.fence == entry.fence:
                mirror.feed(entry.offset, entry.text, entry.status)
            if entry.status is not None:
                self._disown(entry.generation, entry.fence)
            entry.resolve()
        elif answer == scripts.STALE:
            self._disown(entry.generation, entry.fence)
            entry.resolve(StaleOwner())
        else:
            entry.resolve(WrongOffset(answer))

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
            self._stops.pop(generation, None)

    def _stopped(self, generation: str) -> None:
        if generation in self._stops:
            self._stops[generation].set()

    def _taken(self, generation: str, fence: int) -> None:
        mirror = self._mirrors.get(generation)
        if mirror is not None and mirror.fence is not None and mirror.fence < fence:
            self._disown(generation, mirror.fence)


def _entry(generation: str, fence: int, offset: int, text: str, status: str | None = None) -> Entry:
    fields = [generation, fence, offset, len(text), text, status or "", shard_of(generation)]
    try:
        data = orjson.dumps(fields)
    except TypeError as error:
        raise ValueError("a text for the log holds a lone surrogate") from error
    return Entry(generation, fence, offset, text, data, status)


def _translated(error: Exception) -> Exception:
    if not_now(error):
        return LogUnavailable(f"the generation log cannot be reached: {error}")
    return error
