"""When a connection rests whose reads are gathered, and when it must not."""

import asyncio
from collections.abc import Callable

import pytest

from inference.gathering import LONGEST, STEADY, Gathering

EACH_S = 0.02
FAR_S = 60.0


class Transport(asyncio.Transport):
    """A connection on which nothing comes by itself."""

    reading = True

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol


class Reader(asyncio.Protocol):
    """Takes what comes; `full` lets it stop the connection behind each read, as aiohttp does."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.full = False
        self.read: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.read.append(data)
        if self.full:
            self.transport.pause_reading()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


class Connection:
    def __init__(self, interval: Callable[[], float]) -> None:
        self.transport = Transport()
        self.reader = Reader(self.transport)
        self.gathering = Gathering(self.transport, self.reader, interval)

    async def flows(self) -> None:
        """An answer comes until its connection may rest, and is awake."""
        for _ in range(STEADY):
            self.reader.read.clear()
            self.gathering.data_received(b"x")
            await until(lambda: len(self.reader.read) == 1)
        await until(lambda: not self.transport.reading)
        await until(lambda: self.transport.reading)

    async def rests(self) -> None:
        self.gathering.data_received(b"x")
        await asyncio.sleep(0)
        assert not self.transport.reading


@pytest.fixture
async def connection() -> Connection:
    return Connection(lambda: EACH_S)


async def test_a_reader_who_has_enough_is_not_woken(connection: Connection) -> None:
    """aiohttp itself stops reading while nobody takes what it has; resting must not start it again."""
    await connection.flows()
    await connection.rests()
    await until(lambda: connection.transport.reading)
    connection.reader.full = True
    connection.gathering.data_received(b"x")
    await asyncio.sleep(2.5 * EACH_S)
    assert not connection.transport.reading, "the reader has not said that it goes on"


async def test_what_comes_when_a_full_reader_goes_on_is_gathered_again(connection: Connection) -> None:
    await connection.flows()
    connection.reader.full = True
    connection.gathering.data_received(b"x")
    await asyncio.sleep(0)
    connection.reader.full = False
    connection.transport.resume_reading()
    before = len(connection.reader.read)
    connection.gathering.data_received(b"y")
    assert len(connection.reader.read) == before
    await until(lambda: len(connection.reader.read) > before)
    assert connection.reader.read[before:] == [b"y"]


async def test_a_connection_that_rests_is_handed_back_awake(connection: Connection) -> None:
    await connection.flows()
    await connection.rests()
    connection.gathering.stop()
    assert connection.transport.reading
    assert connection.transport.protocol is connection.reader


async def test_a_connection_is_not_put_to_rest_behind_the_end(connection: Connection) -> None:
    await connection.flows()
    connection.gathering.data_received(b"[DONE]")
    for _ in range(3):
        await asyncio.sleep(0)
        assert connection.transport.reading


@pytest.mark.parametrize(
    "mark", [b'"finish_reason":"', b'"finish_reason": "', b'"error":', b"[DONE]", b"\r\n0\r\n\r\n"]
)
async def test_an_end_in_many_reads_is_let_through(mark: bytes) -> None:
    connection = Connection(lambda: FAR_S)
    sent = [b"x" * LONGEST, *(mark[at : at + 1] for at in range(len(mark)))]
    for data in sent:
        assert connection.reader.read == []
        connection.gathering.data_received(data)
    assert connection.reader.read == [b"".join(sent)]
