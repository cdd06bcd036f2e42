"""A script on a connection of its own: whose reply is whose, whatever becomes of the call before."""

import asyncio
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ConnectionError, ResponseError

from chat_app.data.valkey import HeldScript, connect
from tests.faults.proxy import FaultProxy

ECHO = "if ARGV[1] == 'wrong' then return redis.error_reply('ERR no') end return ARGV[1]"


async def test_a_reply_is_never_taken_for_that_of_the_next_call(redis_url: str) -> None:
    client = connect(redis_url)
    script = HeldScript(client, ECHO)
    assert await script("first") == b"first"
    for _ in range(20):
        lost = asyncio.create_task(script("lost"))
        await asyncio.sleep(0)  # It is sent, and nobody waits for its reply any more.
        lost.cancel()
        await asyncio.wait({lost})
        assert await script("next") == b"next"
    with pytest.raises(ResponseError):
        await script("wrong")
    assert await script("after an error") == b"after an error"
    await client.aclose()


async def test_a_call_after_a_lost_connection_connects_anew(redis_url: str) -> None:
    async with FaultProxy(urlsplit(redis_url).port or 6379) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}{urlsplit(redis_url).path}")
        script = HeldScript(client, ECHO)
        assert await script("first") == b"first"
        proxy.drop_next_answer(b"lost")
        with pytest.raises(ConnectionError):
            await script("lost")
        assert await script("next") == b"next"
        await client.aclose()


@pytest.mark.parametrize(("attempts", "lost", "served"), [(1, 0, True), (1, 1, False), (3, 2, True), (3, 3, False)])
async def test_a_command_is_tried_as_often_as_was_asked_for(
    redis_url: str, attempts: int, lost: int, served: bool
) -> None:
    async with FaultProxy(urlsplit(redis_url).port or 6379) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}{urlsplit(redis_url).path}", attempts=attempts)
        for _ in range(lost):
            proxy.drop_next_answer(b"ECHO")
        if served:
            assert await client.echo("here") == b"here"
        else:
            with pytest.raises(ConnectionError):
                await client.echo("here")
        await client.aclose()
