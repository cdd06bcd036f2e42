"""The proxy itself, in front of a server that answers each line with what it has done so far."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import FaultProxy


class Lines:
    """A server that remembers every line it was sent and answers with their number."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.seen.append(line.strip())
            writer.write(f"{len(self.seen)}\n".encode())
        writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes, patience_s: float = 10) -> bytes:
        self.writer.write(line + b"\n")
        return (await asyncio.wait_for(self.reader.readline(), patience_s)).strip()


class Setup:
    def __init__(self, server: Lines, proxy: FaultProxy) -> None:
        self.server, self.proxy = server, proxy

    async def client(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.proxy.port))


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    lines = Lines()
    server = await asyncio.start_server(lines.serve, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield Setup(lines, proxy)
    server.close()


async def seen(setup: Setup, *lines: bytes) -> None:
    async with asyncio.timeout(10):
        while setup.server.seen != list(lines):
            await asyncio.sleep(0.005)


async def test_passes_on_what_it_gets(setup: Setup) -> None:
    one, two = await setup.client(), await setup.client()
    assert [await one.ask(b"a"), await two.ask(b"b"), await one.ask(b"c")] == [b"1", b"2", b"3"]
    assert setup.proxy.connections == 2
    one.writer.close()
    assert await two.ask(b"d") == b"4"


async def test_a_pause_loses_nothing_not_even_what_its_client_has_left(setup: Setup) -> None:
    one = await setup.client()
    await one.ask(b"a")
    setup.proxy.mode = "pause"
    with pytest.raises(TimeoutError):
        await one.ask(b"late", 0.05)
    one.writer.close()
    two = await setup.client()
    with pytest.raises(TimeoutError):
        await two.ask(b"b", 0.05)
    assert setup.server.seen == [b"a"]
    setup.proxy.mode = "pass"
    assert await asyncio.wait_for(two.reader.readline(), 10)
    async with asyncio.timeout(10):
        while set(setup.server.seen) != {b"a", b"late", b"b"}:
            await asyncio.sleep(0.005)


async def test_reset(setup: Setup) -> None:
    one = await setup.client()
    await one.ask(b"a")
    setup.proxy.reset()
    with pytest.raises(ConnectionResetError):
        await one.reader.readline()
    two = await setup.client()
    assert await two.ask(b"b") == b"2"
    setup.proxy.mode = "reset"
    with pytest.raises(ConnectionResetError):
        await two.reader.readline()
    three = await setup.client()
    with pytest.raises(ConnectionError):
        assert await three.reader.readline()
    setup.proxy.mode = "pass"
    assert await (await setup.client()).ask(b"c") == b"3"


@pytest.mark.parametrize("silent", [False, True])
async def test_an_answer_is_lost_after_the_request_was_carried_out(setup: Setup, silent: bool) -> None:
    one, two = await setup.client(), await setup.client()
    lost = setup.proxy.drop_next_answer(b"important", silent=silent)
    assert await two.ask(b"other") == b"1"
    with pytest.raises(TimeoutError if silent else ConnectionResetError):
        await one.ask(b"an important thing", 0.3)
    assert lost.happened.is_set()
    assert setup.server.seen == [b"other", b"an important thing"]
    assert await two.ask(b"important") == b"3"  # only once


async def test_a_held_request_comes_late_and_out_of_order(setup: Setup) -> None:
    one, two = await setup.client(), await setup.client()
    held = setup.proxy.hold_next_request(b"slow")
    with pytest.raises(TimeoutError):
        await one.ask(b"slow", 0.05)
    assert held.happened.is_set()
    one.writer.close()
    assert await two.ask(b"fast") == b"1"
    held.release()
    await seen(setup, b"fast", b"slow")


async def test_half_open(setup: Setup) -> None:
    one = await setup.client()
    await one.ask(b"a")
    setup.proxy.mode = "half-open"
    two = await setup.client()
    for client in (one, two):
        with pytest.raises(TimeoutError):
            await client.ask(b"lost", 0.05)
    setup.proxy.mode = "pass"
    with pytest.raises(TimeoutError):
        await one.ask(b"lost", 0.05)
    assert await (await setup.client()).ask(b"b") == b"2"
    assert setup.server.seen == [b"a", b"b"]


async def test_delay(setup: Setup) -> None:
    one = await setup.client()
    setup.proxy.delay(60)
    begin = asyncio.get_running_loop().time()
    assert await one.ask(b"a") == b"1"
    assert asyncio.get_running_loop().time() - begin > 0.1
    setup.proxy.delay(0)
    assert await one.ask(b"b") == b"2"
