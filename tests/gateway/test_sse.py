"""Relaying updates: in order, each in one write, until the end, with a comment in silences."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from chat_app.data.log.entries import Entry, text_of
from chat_app.gateway import sse as module
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.sse import COMMENT, relay
from chat_app.sessions.viewer import Update


class Source:
    """Updates with a pause before each; remembers whether it was closed."""

    def __init__(self, *updates: Update, pause: float = 0.0) -> None:
        self._updates = updates
        self._pause = pause
        self.closed = False

    async def follow(self) -> AsyncGenerator[Update, None]:
        try:
            for update in self._updates:
                await asyncio.sleep(self._pause)
                yield update
        finally:
            self.closed = True


class Program:
    """What a program was sent; its connection breaks at the write numbered `breaks_at`."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.heard: list[bytes] = []
        self._breaks_at = breaks_at

    async def _receive(self) -> dict[str, Any]:
        raise AssertionError("nobody asked whether it is there")

    async def _send(self, message: Any) -> None:
        if len(self.heard) == self._breaks_at:
            raise BrokenPipeError
        self.heard.append(message["body"])
        assert message["more_body"]

    @property
    def connection(self) -> Connection:
        return Connection(self._receive, self._send)


def said(offset: int, *texts: str, end: str | None = None) -> Update:
    entries = tuple(Entry("text", text) for text in texts)
    return Update(offset, entries, offset + sum(map(len, texts)), end)


def encoded(update: Update) -> bytes:
    return text_of(update.entries).encode()


SIGN_OF_LIFE = Update(2, (), 2)
UPDATES = (said(0, "ab"), said(2, "c", "d"), said(4, end="done"))


async def test_every_update_arrives_in_one_write_and_the_status_is_returned() -> None:
    source, program = Source(*UPDATES), Program()
    assert await relay(source.follow(), program.connection, encoded) == "done"
    assert program.heard == [b"ab", b"cd"]
    assert source.closed


async def test_the_last_update_may_have_text() -> None:
    program = Program()
    assert await relay(Source(said(0, "ab", end="stopped"), said(2, "x")).follow(), program.connection, encoded)
    assert program.heard == [b"ab"]


async def test_an_unknown_answer_ends_without_a_status() -> None:
    program = Program()
    assert await relay(Source().follow(), program.connection, encoded) is None
    assert program.heard == []


async def test_a_hang_up_closes_the_source() -> None:
    source, program = Source(*UPDATES), Program(breaks_at=1)
    with pytest.raises(HungUp):
        await relay(source.follow(), program.connection, encoded)
    assert (program.heard, source.closed) == ([b"ab"], True)


async def test_a_long_silence_is_filled_and_only_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = (said(0, "ab"), *[SIGN_OF_LIFE] * 6, said(2, end="done"))
    short = Program()
    await relay(Source(*silence, pause=0.02).follow(), short.connection, encoded)
    assert short.heard == [b"ab"]
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.05)
    long = Program()
    await relay(Source(*silence, pause=0.02).follow(), long.connection, encoded)
    assert long.heard[0] == b"ab"
    assert set(long.heard[1:]) == {COMMENT}
    assert 1 <= len(long.heard[1:]) <= 3
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.0)
    end = Program()
    await relay(Source(said(0, end="done")).follow(), end.connection, encoded)
    assert end.heard == []


async def test_being_cancelled_closes_the_source() -> None:
    source = Source(UPDATES[0], pause=3600)
    task = asyncio.create_task(relay(source.follow(), Program().connection, encoded))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
