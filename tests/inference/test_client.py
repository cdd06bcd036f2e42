"""The client against servers that die, dawdle, or are somebody else's."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web

from inference import client as client_module
from inference.client import InferenceClient
from inference.engines.remote import RemoteEngine
from inference.protocol import (
    BadRequest,
    CannotCount,
    Chunk,
    ContextTooLong,
    Embeddings,
    EngineDied,
    EngineError,
    Logprob,
    Message,
    ModelNotFound,
    Overloaded,
    Picked,
    Request,
    Sampling,
    Usage,
)
from inference.wire import error_from
from tests.inference.conftest import Handler, StartServer, StartService, collect, request, script, text_of


def event(text: str | None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}) + b"\n\n"


def sends(*writes: bytes, pause: float = 0.02) -> Handler:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await sse(http, *writes, pause=pause)

    return handler


async def sse(http: web.Request, *writes: bytes, pause: float = 0.02) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(http)
    for data in writes:
        await response.write(data)
        await asyncio.sleep(pause)
    return response


async def test_several_events_of_one_read_are_one_chunk(start_server: StartServer) -> None:
    url = await start_server(sends(event("a") + event("b") + event("c"), event("d", "stop")))
    client = InferenceClient(url)
    assert await collect(client, request("x")) == [Chunk("abc", 3), Chunk("d", 1), Chunk("", 0, "stop", None)]
    await client.close()


async def test_events_may_be_cut_anywhere(start_server: StartServer) -> None:
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\r\n\r\n'
    whole = (
        b": hello\n\n" + event("né") + b"event: x\n" + event("🌲") + event(None, "length") + usage + b"data: [DONE]\n\n"
    )
    url = await start_server(sends(*(whole[at : at + 1] for at in range(len(whole))), pause=0))
    client = InferenceClient(url)
    chunks = await collect(client, request("x"))
    assert text_of(chunks) == "né🌲"
    assert chunks[-1].finish == "length"
    assert chunks[-1].usage == Usage(3, 2)
    await client.close()


async def test_what_is_sent_is_what_openai_and_vllm_take(start_server: StartServer) -> None:
    seen: list[tuple[str, dict[str, object]]] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        seen.append((http.headers.get("Authorization", ""), await http.json()))
        return await sse(http, event("ok", "stop"), b"data: [DONE]\n\n")

    client = InferenceClient(await start_server(handler), "secret")
    further: dict[str, Any] = {"top_k": 5, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.1, "grammar": "g"}
    sampling = Sampling(9, 0.5, 0.8, 3, ("END",), 0.1, 0.2, **further, logprobs=0, json_schema='{"type":"null"}')
    asked = Request("m", (Message("system", "s"), Message("user", "u")), sampling, "so far", "id1", "user1", 4)
    await collect(client, asked)
    assert seen == [
        (
            "Bearer secret",
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "content": "so far"},
                ],
                "continue_final_message": True,
                "add_generation_prompt": False,
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": 9,
                "temperature": 0.5,
                "top_p": 0.8,
                "seed": 3,
                "stop": ["END"],
                "presence_penalty": 0.1,
                "frequency_penalty": 0.2,
                **further,
                "repeat_penalty": 1.1,
                "logprobs": True,
                "top_logprobs": 1,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": {"type": "null"}},
                },
                "user": "user1",
            },
        )
    ]
    await client.close()


async def test_nobody_there() -> None:
    client = InferenceClient("http://127.0.0.1:9")
    with pytest.raises(EngineDied):
        await collect(client, request("x"))
    with pytest.raises(EngineDied):
        await client.count("m", [Message("user", "x")])
    assert not await client.health()
    nowhere = InferenceClient(lambda: "")
    with pytest.raises(EngineDied, match="not running"):
        await collect(nowhere, request("x"))
    assert not await nowhere.health()
    await client.close()


async def test_an_end_without_a_finish_is_a_death(start_server: StartServer) -> None:
    client = InferenceClient(await start_server(sends(event("half"))))
    got: list[Chunk] = []
    with pytest.raises(EngineDied):
        async for chunk in client.stream(request("x")):
            got.append(chunk)
    assert text_of(got) == "half"
    await client.close()


async def test_a_reset_in_mid_stream_is_a_death(start_server: StartServer) -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        response = await sse(http, event("half"))
        assert http.transport is not None
        http.transport.abort()
        return response

    client = InferenceClient(await start_server(handler))
    got: list[Chunk] = []
    with pytest.raises(EngineDied):
        async for chunk in client.stream(request("x")):
            got.append(chunk)
    assert text_of(got) == "half"
    await client.close()


async def test_silence_is_a_death(start_server: StartServer) -> None:
    client = InferenceClient(await start_server(sends(event("half"), pause=30)), read_timeout=0.2)
    began = time.monotonic()
    with pytest.raises(EngineDied, match="time"):
        await collect(client, request("x"))
    assert time.monotonic() - began < 2
    await client.close()


@pytest.mark.parametrize("caller", ["client", "remote"])
async def test_what_came_before_it_broke_off_stands_and_can_be_continued(
    start_service: StartService, caller: str
) -> None:
    _, url = await start_service()
    client = InferenceClient(url) if caller == "client" else RemoteEngine(url)
    if isinstance(client, RemoteEngine):
        await client.load()
    question = script(tokens=80, rate=400, seed=3, drop_at=31)
    whole = text_of([chunk async for chunk in client.stream(request(script(tokens=80, seed=3), max_tokens=100))])
    got: list[Chunk] = []
    with pytest.raises(EngineDied):
        async for chunk in client.stream(request(question, max_tokens=100)):
            got.append(chunk)
    assert sum(chunk.tokens for chunk in got) == 31
    continued = request(question, max_tokens=100, continue_from=text_of(got))
    rest = [chunk async for chunk in client.stream(continued)]
    assert text_of(got) + text_of(rest) == whole
    assert rest[-1].usage is not None
    assert rest[-1].usage.completion_tokens == 49
    await (client.unload() if isinstance(client, RemoteEngine) else client.close())


async def test_refusals_keep_their_type(start_service: StartService) -> None:
    _, url = await start_service()
    client = InferenceClient(url)
    kinds: dict[str, type[EngineError]] = {
        "overloaded": Overloaded,
        "context": ContextTooLong,
        "bad": BadRequest,
        "died": EngineDied,
    }
    for refuse, kind in kinds.items():
        with pytest.raises(kind) as caught:
            await collect(client, request(script(refuse=refuse)))
        assert caught.value.retryable == kind.retryable
    await client.close()


async def test_errors_of_other_servers_are_understood(start_server: StartServer) -> None:
    answers = {
        "llama": (400, {"error": {"code": 400, "type": "exceed_context_size_error", "message": "too long"}}),
        "vllm": (400, {"object": "error", "message": "no", "type": "BadRequestError", "code": 400}),
        "proxy": (502, "<html>Bad Gateway</html>"),
        "busy": (429, {"error": {"message": "later"}}),
    }

    async def handler(http: web.Request) -> web.StreamResponse:
        status, body = answers[(await http.json())["model"]]
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={"Retry-After": "7"})

    client = InferenceClient(await start_server(handler))
    for model, kind in {"llama": ContextTooLong, "vllm": BadRequest, "proxy": EngineDied, "busy": Overloaded}.items():
        with pytest.raises(kind) as caught:
            await collect(client, request("x", model))
        if isinstance(caught.value, Overloaded):
            assert caught.value.retry_after == 7.0
    await client.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 1.0),
        ("", 1.0),
        ("7", 7.0),
        ("0.5", 0.5),
        ("0", 0.1),
        ("-5", 0.1),
        ("1e99", 300.0),
        ("inf", 300.0),
        ("-inf", 0.1),
        ("nan", 1.0),
        ("soon", 1.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0),
    ],
)
def test_what_a_busy_server_asks_for_is_a_pause_that_can_be_made(header: str | None, seconds: float) -> None:
    """A replica that is to rest for ever would never be asked again."""
    error = error_from(429, {}, header)
    assert isinstance(error, Overloaded)
    assert error.retry_after == seconds


async def test_an_error_in_mid_stream_is_raised(start_server: StartServer) -> None:
    error = b'data: {"error": {"message": "the cache is full", "code": 500}}\n\n'
    client = InferenceClient(await start_server(sends(event("half"), error)))
    with pytest.raises(EngineDied, match="cache is full"):
        await collect(client, request("x"))
    await client.close()


async def test_log_probabilities_of_other_servers_are_understood(start_server: StartServer) -> None:
    top = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -2}]
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": top}]}
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": logprobs, "finish_reason": "stop"}
    client = InferenceClient(await start_server(sends(b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n")))
    chunks = await collect(client, request("x", logprobs=1))
    assert chunks[0].logprobs == (Picked(Logprob("a", -0.1, b"a"), (Logprob("a", -0.1, b"a"),)),)
    assert (await collect(client, request("x", logprobs=0)))[0].logprobs[0].top == ()
    await client.close()


@pytest.mark.parametrize("content", [[{"token": "a"}], [7], {"a": 1}, [{"token": "a", "logprob": "x"}]])
async def test_log_probabilities_that_are_none_are_a_death(start_server: StartServer, content: Any) -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": content}}
    client = InferenceClient(await start_server(sends(b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n")))
    with pytest.raises(EngineDied, match="no piece"):
        await collect(client, request("x", logprobs=1))
    await client.close()


async def test_vectors_of_other_servers_are_put_in_order_or_refused(start_server: StartServer) -> None:
    good = {
        "data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}],
        "usage": {"prompt_tokens": 4},
    }
    short = {**good, "data": good["data"][:1]}
    answers: list[tuple[int, Any]] = [(200, good), (200, short), (200, {"data": 3}), (404, {}), (501, {}), (400, {})]

    async def handler(http: web.Request) -> web.StreamResponse:
        status, body = answers[int((await http.json())["model"])]
        return web.json_response(body, status=status)

    client = InferenceClient(await start_server(handler))
    assert await client.embed("0", ["a", "b"]) == Embeddings(((1.0, 0.0), (0.0, 1.0)), 4)
    for number, kind in enumerate([EngineError, EngineError, BadRequest, BadRequest, BadRequest], 1):
        with pytest.raises(kind):
            await client.embed(str(number), ["a", "b"])
    await client.close()


async def test_a_server_that_cannot_count_is_not_asked_each_time(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers: list[Any] = [web.HTTPNotFound, {"tokens": [1, 2]}, {"count": 3}]

    async def handler(http: web.Request) -> web.StreamResponse:
        asked.append(http.path)
        answer = answers[0]
        if not isinstance(answer, dict):
            raise answer
        return web.json_response(answer)

    now = [1_000.0]
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client = InferenceClient(await start_server(handler))
    hello = [Message("user", "x")]
    for says in ("no /tokenize", "does not answer with a count"):
        for _ in range(3):
            with pytest.raises(CannotCount, match=f"{says}|no /tokenize"):
                await client.count("m", hello)
        assert len(asked) == 1
        asked.clear()
        answers.pop(0)
        now[0] += client_module.ASK_AGAIN_S
    assert await client.count("m", hello) == 3
    await client.close()


async def test_a_server_that_came_back_is_asked_again_whether_it_can_count(start_server: StartServer) -> None:
    counts = False

    async def handler(http: web.Request) -> web.StreamResponse:
        if not counts:
            raise web.HTTPNotFound
        return web.json_response({"count": 3})

    url = await start_server(handler)
    there = [url]
    client = InferenceClient(lambda: there[0])
    hello = [Message("user", "x")]
    with pytest.raises(CannotCount):
        await client.count("m", hello)
    counts = True
    with pytest.raises(CannotCount):
        await client.count("m", hello)
    there[0] = "http://127.0.0.1:9"
    assert not await client.health()
    there[0] = url
    assert await client.count("m", hello) == 3
    await client.close()


async def test_a_model_that_is_not_there_is_not_taken_for_a_server_that_cannot_count(
    start_service: StartService,
) -> None:
    _, url = await start_service()
    client = InferenceClient(url)
    with pytest.raises(ModelNotFound):
        await client.count("other", [Message("user", "x")])
    assert await client.count("scripted", [Message("user", "x")]) > 0
    await client.close()


async def test_a_pooled_connection_that_was_closed_is_replaced() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        body = event("ok", "stop") + b"data: [DONE]\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await reader.read(1)  # It says nothing of closing, and closes when the next request comes.
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        client = InferenceClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(3):
            assert text_of(await collect(client, request("x"))) == "ok"
        await client.close()


async def test_connections_are_reused(start_service: StartService) -> None:
    _, url = await start_service()
    client = InferenceClient(url)
    for _ in range(5):
        await collect(client, request(script(tokens=3)))
    connector = client._pool().connector
    assert connector is not None
    assert sum(map(len, connector._conns.values())) == 1
    await client.close()
