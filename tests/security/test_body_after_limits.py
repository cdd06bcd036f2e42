"""Whoever is over their limit is refused before their body is read, and a connection is kept where it can be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import orjson
import pytest

from chat_app.gateway import completion_body
from chat_app.gateway.completion_body import LARGE_AT_ONCE, SMALL, Bodies
from chat_app.gateway.completions_route import PATH
from chat_app.gateway.connection import Connection
from tests.gateway.served import Served
from tests.parley import script

BODY = orjson.dumps({"messages": [{"role": "user", "content": script(tokens=2, rate=0)}]})
SLOW = orjson.dumps({"messages": [{"role": "user", "content": script(tokens=2_000, rate=20)}], "stream": True})


class Wire:
    """A connection of our own, on which a request's head and body are sent when the test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self, key: str, length: int, path: str = PATH, more: str = "") -> None:
        self.writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{more}"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        await self.writer.drain()

    async def response(self) -> tuple[int, bytes]:
        """Status, and the head in lower case; the body is left behind."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await self.reader.readexactly(length)
        return int(head.split()[1]), head


@asynccontextmanager
async def wire(served: Served) -> AsyncIterator[Wire]:
    split = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def plan(served: Served, a_minute: int, at_a_time: int) -> None:
    await served.parley.plans.save("tight", "Tight", None, a_minute, at_a_time)
    await served.parley.accounts.set_plan(served.who.user_id, "tight")


async def call(served: Served, data: bytes = BODY) -> int:
    async with served.http.post(served.url + PATH, data=data, headers=served.bearer) as response:
        await response.read()
        return response.status


async def test_over_the_rate_no_body_is_read(served_anywhere: Served) -> None:
    await plan(served_anywhere, 1, 4)
    assert await call(served_anywhere) == 200
    async with wire(served_anywhere) as here:
        await here.head(served_anywhere.key, 3_900_000)
        status, head = await here.response()
    assert status == 429
    assert b"connection: close" in head and b"retry-after:" in head


async def test_with_all_places_taken_no_body_is_read(served_anywhere: Served) -> None:
    await plan(served_anywhere, 600, 1)
    async with wire(served_anywhere) as running, wire(served_anywhere) as here:
        await running.head(served_anywhere.key, len(SLOW))
        running.writer.write(SLOW)
        await asyncio.wait_for(running.reader.readuntil(b"\r\n\r\n"), 10)
        await here.head(served_anywhere.key, 3_900_000)
        assert (await here.response())[0] == 429


async def test_who_waits_too_long_for_others_of_theirs_is_told_and_leaves_the_place(
    served_anywhere: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_body, "WAIT_S", 0.2)
    being_read = asyncio.Semaphore(0)
    body = Connection.body

    async def counted(self: Connection, most: int) -> bytes:
        being_read.release()
        return await body(self, most)

    monkeypatch.setattr(Connection, "body", counted)
    await plan(served_anywhere, 600, LARGE_AT_ONCE + 1)
    async with AsyncExitStack() as stack:
        for _ in range(LARGE_AT_ONCE):
            slow = await stack.enter_async_context(wire(served_anywhere))
            await slow.head(served_anywhere.key, 3_900_000)
            await asyncio.wait_for(being_read.acquire(), 10)
        for _ in range(2):  # The second one finds the place of the first.
            async with wire(served_anywhere) as here:
                await here.head(served_anywhere.key, 3_900_000)
                status, head = await here.response()
            assert status == 429
            assert b"retry-after: 5\r\n" in head and b"connection: close" in head
        assert await call(served_anywhere) == 200


async def test_who_sends_a_body_slowly_has_a_place_meanwhile_and_gives_it_back(served_anywhere: Served) -> None:
    await plan(served_anywhere, 600, 1)
    async with wire(served_anywhere) as slow:
        await slow.head(served_anywhere.key, 3_900_000)
        slow.writer.write(b"{")
        async with asyncio.timeout(10):
            while await call(served_anywhere) != 429:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while await call(served_anywhere) != 200:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("data", [b"{", b'{"messages": []}', b"[" * SMALL + b"{"], ids=["no JSON", "wrong", "large"])
async def test_a_body_that_is_refused_leaves_its_place(served_anywhere: Served, data: bytes) -> None:
    await plan(served_anywhere, 600, 1)
    for _ in range(2):
        assert await call(served_anywhere, data) == 400
    assert await call(served_anywhere) == 200


@pytest.mark.parametrize("refused_as", [401, 429])
async def test_behind_a_small_body_the_connection_goes_on(served: Served, refused_as: int) -> None:
    await plan(served, 1, 4)
    assert await call(served) == 200
    key = served.key if refused_as == 429 else "sk-wrong"
    async with wire(served) as here:
        for _ in range(2):
            await here.head(key, len(BODY))
            await asyncio.sleep(0.05)  # As a program does that sends its body behind its head.
            here.writer.write(BODY)
            status, head = await here.response()
            assert status == refused_as
            assert b"connection: close" not in head


@pytest.mark.parametrize(
    ("length", "more"),
    [(SMALL + 1, ""), (300, "Expect: 100-continue\r\n"), (300, "")],
    ids=["large", "asks before it sends", "never comes"],
)
async def test_behind_a_body_that_stays_unread_the_connection_is_closed(
    served: Served, length: int, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.gateway.connection.SOON_S", 0.1)
    async with wire(served) as here:
        await here.head("sk-wrong", length, more=more)
        status, head = await here.response()
        assert (status, b"connection: close" in head) == (401, True)
        assert await asyncio.wait_for(here.reader.read(), 10) == b""


async def test_only_completions_may_be_large(served: Served) -> None:
    async with wire(served) as here:
        await here.head("sk-wrong", SMALL + 1, "/v1/admin/plans/free")
        assert (await here.response())[0] == 413


async def test_of_one_person_few_large_bodies_are_read_at_a_time() -> None:
    reading: list[str] = []
    go_on = asyncio.Event()
    bodies = Bodies(4_000_000)

    async def read(whose: str, length: int | None) -> int:
        async def receive() -> dict[str, object]:
            reading.append(whose)
            await go_on.wait()
            return {"type": "http.request", "body": b"x" * 10}

        async def send(message: object) -> None: ...

        return await bodies.read(Connection(receive, send), length, whose, len)

    ada = [asyncio.create_task(read("ada", SMALL + 1)) for _ in range(LARGE_AT_ONCE + 3)]
    others = [asyncio.create_task(read("eve", None)), asyncio.create_task(read("ada", SMALL))]
    await asyncio.sleep(0.05)
    assert sorted(reading) == ["ada"] * (LARGE_AT_ONCE + 1) + ["eve"]
    go_on.set()
    assert set(await asyncio.gather(*ada, *others)) == {10}


@pytest.mark.parametrize("path", [PATH, "/v1/models", "/auth/login"])
async def test_a_length_beyond_all_bounds_is_too_large(served: Served, path: str) -> None:
    async with wire(served) as line:
        line.writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {'0' * 5_000}9\r\n\r\n".encode())
        assert (await line.response())[0] == 413
