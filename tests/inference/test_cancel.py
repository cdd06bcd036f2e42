"""A stop stops: in the queue, while the prompt is read, in the answer. With every engine."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from inference.client import InferenceClient
from inference.protocol import Request
from tests.inference.conftest import Live, StartService, collect, request, script, text_of


async def until(live: Live, condition: Callable[[dict[str, Any]], bool], timeout: float = 10.0) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while not condition(status := await live.status()):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.01)
    return status


def numbers(count: int, step: int) -> str:
    """A text of about five tokens a number that no test has asked before."""
    return " ".join(str(1000 + n * step) for n in range(count))


@asynccontextmanager
async def reading(client: InferenceClient, asked: Request) -> AsyncIterator["asyncio.Task[object]"]:
    task: asyncio.Task[object] = asyncio.create_task(collect(client, asked))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_closing_the_stream_frees_the_slot(live: Live, client: InferenceClient) -> None:
    before = (await live.status())["cancelled"]
    stream = client.stream(request(live.long, live.model, max_tokens=400))
    async for chunk in stream:
        assert chunk.finish is None
        break
    closed = time.monotonic()
    await stream.aclose()
    status = await until(live, lambda status: status["cancelled"] == before + 1)
    assert (status["running"], status["last_cancel_stage"]) == (0, "decode")
    assert float(status["last_cancel_monotonic"]) - closed < (0.5 if live.kind == "scripted" else 2.0)


async def test_cancelling_while_the_prompt_is_read(live: Live, client: InferenceClient) -> None:
    before = (await live.status())["cancelled"]
    text = script(prefill_s=60) if live.kind == "scripted" else numbers(700, 37)
    began = time.monotonic()
    await collect(client, request(numbers(30, 41), live.model, max_tokens=1))  # As long as one batch of a prompt.
    batch = time.monotonic() - began
    async with reading(client, request(text, live.model, max_tokens=400)):
        await until(live, lambda status: status["running"] == 1)
        await asyncio.sleep(0.3)
        left = time.monotonic()
    status = await until(live, lambda status: status["cancelled"] == before + 1, 30)
    assert (status["running"], status["last_cancel_stage"]) == (0, "prefill")
    assert float(status["last_cancel_monotonic"]) - left < 0.5 + 6 * batch  # The whole prompt is 25 batches.


async def test_leaving_before_the_first_token_frees_the_slot(live: Live, client: InferenceClient) -> None:
    before = (await live.status())["cancelled"]
    text = script(stall_at=0) if live.kind == "scripted" else numbers(300, 43)
    async with reading(client, request(text, live.model, max_tokens=400)):
        await until(live, lambda status: status["running"] == 1)
    status = await until(live, lambda status: status["cancelled"] == before + 1, 30)
    assert (status["running"], status["last_cancel_stage"]) == (0, "prefill")


async def test_leaving_after_the_end_cancels_nothing(live: Live, client: InferenceClient) -> None:
    before = await live.status()
    stream = client.stream(request("Hi", live.model, max_tokens=3))
    async for chunk in stream:
        if chunk.finish:
            break
    await stream.aclose()
    after = await until(live, lambda status: status["completed"] == before["completed"] + 1)
    assert (after["cancelled"], after["running"]) == (before["cancelled"], 0)


async def test_cancelling_in_the_queue_is_immediate(live: Live, client: InferenceClient) -> None:
    before = (await live.status())["cancelled"]
    running = [asyncio.create_task(collect(client, request(live.long, live.model, max_tokens=400))) for _ in range(8)]
    await until(live, lambda status: status["running"] == 8)
    async with reading(client, request("Hi", live.model)) as waiting:
        await until(live, lambda status: status["waiting"] == 1)
        assert not waiting.done()
        left = time.monotonic()
    status = await until(live, lambda status: status["cancelled"] == before + 1)
    assert (status["waiting"], status["running"], status["last_cancel_stage"]) == (0, 8, "queue")
    assert float(status["last_cancel_monotonic"]) - left < 0.5
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await until(live, lambda status: status["running"] == 0)


async def test_others_go_on_while_one_is_stopped(live: Live, client: InferenceClient) -> None:
    asked = request(live.long, live.model, max_tokens=60)
    other = asyncio.create_task(collect(client, asked))
    stream = client.stream(request(f"{live.long} ", live.model, max_tokens=400))
    await anext(stream)
    await stream.aclose()
    chunks = await other
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 60
    assert len(text_of(chunks)) > 60


async def test_a_storm_of_people_who_leave(live: Live, client: InferenceClient) -> None:
    async def leave(number: int) -> None:
        stream = client.stream(request(f"{live.long} {number}", live.model, max_tokens=300))
        task = asyncio.ensure_future(anext(stream))
        await asyncio.wait({task}, timeout=0.02 * (number % 12))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()

    await asyncio.gather(*(leave(number) for number in range(40)))
    status = await until(live, lambda status: status["running"] == 0 and status["waiting"] == 0)
    assert status["state"] == "ready"
    assert (await collect(client, request("Hi", live.model, max_tokens=3)))[-1].finish is not None


async def test_the_freed_place_goes_to_who_waits_longest(start_service: StartService) -> None:
    service, url = await start_service(slots=1)
    client = InferenceClient(url)
    ended: list[int] = []

    async def ask(number: int) -> None:
        await collect(client, request(script(tokens=4, rate=40, seed=number)))
        ended.append(number)

    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(ask(number)))
        while service.status()["running"] + service.status()["waiting"] < number + 1:
            await asyncio.sleep(0.002)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ended == [0, 2, 3]
    await client.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_whoever_stops_reading_does_not_hold_up_the_others(start_service: StartService, whole: bool) -> None:
    _, url = await start_service()
    host, port = url.removeprefix("http://").split(":")
    body = b'{"messages":[{"role":"user","content":"{\\"script\\":{\\"tokens\\":200000}}"}],"stream":true}'
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + (body if whole else body[:20]))
    client = InferenceClient(url)
    chunks = await asyncio.wait_for(collect(client, request(script(tokens=50))), 5)
    assert chunks[-1].finish == "length"
    writer.close()
    await client.close()


async def test_a_client_that_stops_reading_loses_its_slot_and_others_go_on(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.server.STALLED_S", 0.3)
    service, url = await start_service(context=10**6)
    host, port = url.removeprefix("http://").split(":")
    # With log probabilities an answer is many times what the sockets between the two hold.
    asked = {"messages": [{"role": "user", "content": script(tokens=30_000)}], "stream": True, "max_tokens": 30_000}
    body = json.dumps({**asked, "logprobs": True, "top_logprobs": 20}).encode()
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    client = InferenceClient(url)
    other = asyncio.create_task(collect(client, request(script(tokens=60, rate=40), max_tokens=60)))
    while service.status()["running"] < 2:
        await asyncio.sleep(0.005)
    chunks = await asyncio.wait_for(other, 10)
    assert (sum(chunk.tokens for chunk in chunks), chunks[-1].finish) == (60, "stop")
    async with asyncio.timeout(2):
        while service.status()["running"]:
            await asyncio.sleep(0.01)
    assert service.status()["cancelled"] == 1
    writer.close()
    await client.close()
