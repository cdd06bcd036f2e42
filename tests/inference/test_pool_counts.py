"""Who of a pool counts: whoever does not in time is passed over, and a lone one is waited for."""

import asyncio

import pytest
from aiohttp import web

from inference import pool
from inference.protocol import EngineDied, Message
from tests.inference.conftest import MakePool, StartServer, StartService, until
from tests.inference.stranger import Stranger

HELLO = [Message("user", "hello")]
COUNTED = 7


class Slow(Stranger):
    """It can count, once it is `let` to."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.counting = 0

    async def serve(self, http: web.Request) -> web.StreamResponse:
        if http.path != "/tokenize":
            return await super().serve(http)
        self.counting += 1
        await self.let.wait()
        return web.json_response({"count": COUNTED})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "COUNT_S", 0.05)


async def test_of_two_the_other_counts_for_who_does_not_in_time(
    make_pool: MakePool, start_service: StartService, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COUNT_S", 2.0)  # in which the other counts on a busy machine too
    slow, (_, url) = Slow(), await start_service()
    made, own = make_pool(await start_server(slow.serve), url), make_pool(url)
    async with asyncio.timeout(10):
        assert await made.count("scripted", HELLO) == await own.count("scripted", HELLO) != COUNTED
    assert slow.counting == 1
    assert made.replicas[0].counts_tokens, "it was only slow"


@pytest.mark.usefixtures("hasty")
async def test_a_lone_one_is_waited_for(make_pool: MakePool, start_server: StartServer) -> None:
    slow = Slow()
    made = make_pool(await start_server(slow.serve))
    counting = asyncio.create_task(made.count("scripted", HELLO))
    await until(lambda: slow.counting)
    await asyncio.sleep(pool.COUNT_S * 4)
    assert not counting.done()
    slow.let.set()
    assert await asyncio.wait_for(counting, 10) == COUNTED
    assert slow.counting == 1


@pytest.mark.usefixtures("hasty")
async def test_when_none_counts_in_time_it_is_said_of_the_last(make_pool: MakePool, start_server: StartServer) -> None:
    slow = [Slow(), Slow()]
    made = make_pool(*[await start_server(one.serve) for one in slow])
    with pytest.raises(EngineDied, match=f"{made.replicas[1].name} does not answer"):
        async with asyncio.timeout(10):
            await made.count("scripted", HELLO)
    assert [one.counting for one in slow] == [1, 1]


async def test_who_cannot_count_is_asked_last_from_then_on(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    asked: list[str] = []

    async def serve(http: web.Request) -> web.StreamResponse:
        asked.append(http.path)
        return await Stranger().serve(http)

    made = make_pool(await start_server(serve), (await start_service())[1])
    for _ in range(3):
        assert await made.count("scripted", HELLO) > 0
    assert asked.count("/tokenize") == 1
    assert [one.counts_tokens for one in made.replicas] == [False, True]
