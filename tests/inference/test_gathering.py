"""Gathering on the client's side: fewer looks at what a foreign server sends, and no end that is held back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web

from inference import client as client_module
from inference.client import InferenceClient
from inference.gathering import STEADY, Gathering
from inference.protocol import Chunk, EngineDied, Request
from tests.inference.conftest import Handler, StartServer, StartService, collect, request, script, text_of

WORDS = [f"word{number} " for number in range(12)]


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


def says(*last: bytes, pause: float = 0.01, then: float = 0.0, abort: bool = False) -> Handler:
    """The words one after the other, then `last`; the connection stays open for `then` seconds."""

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        for data in (*map(event, WORDS), *last):
            await response.write(data)
            await asyncio.sleep(pause)
        if abort:
            assert http.transport is not None
            http.transport.abort()
        await asyncio.sleep(then)
        return response

    return handler


def endless(left: asyncio.Event) -> Handler:
    """A word every few milliseconds until its reader has gone, which sets `left`."""

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        try:
            while True:
                await response.write(event("on "))
                await asyncio.sleep(0.005)
        finally:
            left.set()

    return handler


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is held for long."""
    monkeypatch.setattr(client_module, "EACH_S", 30.0)


@pytest.fixture
async def client(start_server: StartServer, handler: Handler) -> AsyncIterator[InferenceClient]:
    made = InferenceClient(await start_server(handler))
    yield made
    await made.close()


def gathered(gather_ms: int = 1_000) -> Request:
    return replace(request("x"), gather_ms=gather_ms)


DONE = b"data: [DONE]\n\n"
FINISH = event("", "stop") + DONE


@pytest.mark.parametrize("handler", [says(FINISH)])
async def test_the_same_answer_comes_in_fewer_chunks(client: InferenceClient, handler: Handler) -> None:
    every, few = await collect(client, gathered(0)), await collect(client, gathered(50))
    assert text_of(every) == text_of(few) == "".join(WORDS)
    assert sum(chunk.tokens for chunk in few) == len(WORDS)
    assert len(few) < len(every) / 2


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(says(FINISH, then=5), id="the end mark, but no end of the body"),
        pytest.param(says(*(FINISH[at : at + 1] for at in range(len(FINISH))), pause=0.001), id="cut anywhere"),
        pytest.param(says(FINISH.replace(b'_reason":"', b'_reason": "')), id="written with spaces"),
    ],
)
async def test_the_first_text_and_the_end_are_not_held(client: InferenceClient, handler: Handler) -> None:
    began = time.monotonic()
    chunks = await collect(client, gathered())
    assert time.monotonic() - began < 0.8
    assert text_of(chunks) == "".join(WORDS)
    assert len(chunks) <= 4
    assert chunks[0].text == WORDS[0]
    assert chunks[-1].finish == "stop"


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(says(abort=True), id="a reset"),
        pytest.param(says(b'data: {"error": {"message": "no", "code": 502}}\n\n', then=5), id="an error"),
    ],
)
async def test_a_death_is_not_held_and_what_came_before_stands(client: InferenceClient, handler: Handler) -> None:
    began, chunks = time.monotonic(), list[Chunk]()
    with pytest.raises(EngineDied):
        async for chunk in client.stream(gathered()):
            chunks.append(chunk)
    assert time.monotonic() - began < 0.8
    assert text_of(chunks) == "".join(WORDS)


@pytest.mark.usefixtures("slow")
async def test_the_connection_is_used_again_and_nothing_is_in_its_way(start_server: StartServer) -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        for data in map(event, WORDS):
            await response.write(data)
            await asyncio.sleep(0.005)
        await response.write_eof(FINISH)
        return response

    client = InferenceClient(await start_server(handler))
    for _ in range(3):
        assert text_of(await collect(client, gathered())) == "".join(WORDS)
    connector = client._pool().connector
    assert connector is not None
    ((protocol, *_),) = [one for held in connector._conns.values() for one in held]
    assert protocol.transport is not None
    assert protocol.transport.get_protocol() is protocol
    await client.close()


async def test_leaving_closes_the_connection_at_once(start_server: StartServer) -> None:
    left = asyncio.Event()
    client = InferenceClient(await start_server(endless(left)))
    async with aclosing(client.stream(gathered())) as chunks:
        for _ in range(2):
            await anext(chunks)
    async with asyncio.timeout(1):
        await left.wait()
    assert client._streams == 0
    await client.close()


async def test_a_server_of_ours_gathers_by_itself(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(client_module, "Gathering", never)
    _, url = await start_service()
    client = InferenceClient(url)
    chunks = await collect(client, replace(request(script(tokens=20, rate=400)), gather_ms=20))
    assert sum(chunk.tokens for chunk in chunks) == 20
    await client.close()


@pytest.mark.usefixtures("slow")
async def test_a_text_that_comes_fast_is_not_held_without_bound(start_server: StartServer) -> None:
    big = "x" * 100_000

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        for _ in range(10):
            await response.write(event(big))
            await asyncio.sleep(0.01)
        await response.write(FINISH)
        return response

    client = InferenceClient(await start_server(handler))
    chunks = await collect(client, gathered())
    assert len(text_of(chunks)) == 10 * len(big)
    assert len(chunks) > 3
    await client.close()


class Looks:
    """Counts how often the process is woken to look at a connection."""

    def __init__(self) -> None:
        self.times = 0
        self.made: list[Gathering] = []

    def gathering(self, *args: Any) -> Gathering:
        made = Gathering(*args)
        self.made.append(made)
        received = made.data_received

        def counted(data: bytes) -> None:
            self.times += 1
            received(data)

        made.data_received = counted  # type: ignore[method-assign]
        return made


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(client_module, "Gathering", made.gathering)
    monkeypatch.setattr(client_module, "EACH_S", 0.05)
    return made


def steady(*last: bytes, words: int = 100, abort: bool = False) -> Handler:
    """Words for a second, one every ten milliseconds, then `last`; it keeps the connection."""

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        for number in range(words):
            await response.write(event(f"{number} "))
            await asyncio.sleep(0.01)
        if abort:
            assert http.transport is not None
            http.transport.abort()
        await response.write_eof(b"".join(last))
        return response

    return handler


ALL = "".join(f"{number} " for number in range(100))


@pytest.mark.parametrize("handler", [steady(FINISH)])
async def test_a_steady_answer_is_looked_at_once_an_interval(
    client: InferenceClient, handler: Handler, looks: Looks
) -> None:
    for _ in range(2):  # The second over the same connection.
        looks.times = 0
        chunks = await collect(client, gathered())
        assert text_of(chunks) == ALL
        assert chunks[-1].finish == "stop"
        assert looks.times < 60, "the first three intervals wake for each word, the other fifteen once"
    for made in looks.made:
        assert made._transport.is_reading() and made._transport.get_protocol() is made._inner


@pytest.mark.parametrize("handler", [steady(abort=True)])
async def test_a_death_while_the_connection_rests_loses_nothing(
    client: InferenceClient, handler: Handler, looks: Looks
) -> None:
    chunks = list[Chunk]()
    with pytest.raises(EngineDied):
        async for chunk in client.stream(gathered()):
            chunks.append(chunk)
    assert text_of(chunks) == ALL


async def test_leaving_while_the_connection_rests_closes_it_at_once(start_server: StartServer, looks: Looks) -> None:
    left = asyncio.Event()
    client = InferenceClient(await start_server(endless(left)))
    async with aclosing(client.stream(gathered())) as chunks:
        for _ in range(STEADY + 2):
            await anext(chunks)
        async with asyncio.timeout(1):
            while not looks.made[0]._rests:
                await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await left.wait()
    await client.close()
