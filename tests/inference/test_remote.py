"""The remote engine against servers that are missing, wrong, foreign or break off.

What it must do like every engine is in the conformance suite.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from inference.__main__ import main
from inference.engines.remote import RemoteEngine
from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    EngineDied,
    EngineError,
    Message,
    ModelNotFound,
    Overloaded,
    Request,
    ToolCall,
    Usage,
)
from tests.inference.conftest import Foreign, Handler, Slow, StartServer, StartService, request, script, text_of

MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 1000}]}
HELLO = [Message("user", "Hello there")]

Connect = Callable[..., Awaitable[RemoteEngine]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes a remote engine and loads it."""
    async with AsyncExitStack() as stack:

        async def load(url: str, key: str = "", **options: Any) -> RemoteEngine:
            engine = RemoteEngine(url, key, **options)
            stack.push_async_callback(engine.unload)
            await engine.load()
            return engine

        yield load


def answers(**paths: Any) -> Handler:
    """A server that answers with these at `/models`, `/completions`, `/tokenize` and so on, else that it has no such
    page. A value is JSON, text that is none, or a handler."""

    async def handler(http: web.Request) -> web.StreamResponse:
        said = paths.get(http.path.rpartition("/")[2].replace("-", "_"))
        if said is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        if callable(said):
            return await said(http)  # type: ignore[no-any-return]
        if isinstance(said, str):
            return web.Response(text=said)
        return web.json_response(said)

    return handler


def events(*payloads: Any, abort: bool = False) -> Handler:
    """An event stream of these; with `abort` its connection is cut behind them."""

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for payload in payloads:
            data = payload if isinstance(payload, bytes) else orjson.dumps(payload)
            await response.write(b"data: " + data + b"\n\n")
            await asyncio.sleep(0.01)  # So that each is read by itself.
        if abort and http.transport is not None:
            http.transport.abort()
        return response

    return handler


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def refusal(status: int, message: str, **headers: str) -> Handler:
    async def handler(http: web.Request) -> web.StreamResponse:
        body = {"error": {"message": message, "type": "BadRequestError", "code": status}}
        return web.json_response(body, status=status, headers=headers)

    return handler


async def collect(engine: RemoteEngine, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in engine.stream(asked)]


async def test_nobody_at_the_address(connect: Connect) -> None:
    with pytest.raises(EngineDied, match="cannot be reached"):
        await connect("http://127.0.0.1:9")
    for nonsense in ("127.0.0.1:9", "ftp://127.0.0.1", "http://", "no address"):
        with pytest.raises(EngineError):
            await connect(nonsense)


async def test_a_wrong_key(connect: Connect, start_service: StartService) -> None:
    _, url = await start_service(key="right")
    with pytest.raises(EngineError, match="key"):
        await connect(url, "wrong")
    assert await (await connect(url, "right")).health()


async def test_models_by_name_or_the_first(connect: Connect, start_service: StartService) -> None:
    _, url = await start_service(model="mine")
    with pytest.raises(ModelNotFound, match=r"no model 'yours'; it lists 'mine'"):
        await connect(url, model="yours")
    engine = await connect(f"{url}/v1/", slots=3)
    able = engine.capabilities
    assert (able.model, able.engine, able.context, able.slots, able.kv_tokens) == ("mine", "remote", 32_768, 3, 0)
    assert (await connect(url, model="mine", context=100)).capabilities.context == 100
    assert (await connect(url, context=10**6)).capabilities.context == 32_768
    assert text_of(await collect(engine, request(script(text="It is me."), "another name"))) == "It is me."


async def test_a_service_that_still_loads(connect: Connect, start_service: StartService) -> None:
    there = Slow()
    service, url = await start_service(load=False, engine=there)
    starting = asyncio.create_task(service.start())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="not ready"):
        await connect(url)
    there.let.set()
    await starting
    await connect(url)


async def test_answers_that_are_no_list_of_models(connect: Connect, start_server: StartServer) -> None:
    odd: list[Any] = ["<html>Welcome</html>", "[1, 2]", {"data": [1]}, {"data": 7}, {"data": [{"max_model_len": "x"}]}]
    for models in [*odd, {"data": []}, {}]:
        url = await start_server(answers(models=models))
        with pytest.raises(EngineError):
            await connect(url)


async def test_a_window_that_nobody_names(connect: Connect, start_server: StartServer) -> None:
    url = await start_server(answers(models={"data": [{"id": "m"}]}))
    with pytest.raises(EngineError, match="--context"):
        await connect(url)
    assert (await connect(url, context=500)).capabilities.context == 500


async def test_without_tokenize_the_count_is_an_estimate(
    connect: Connect, start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    stream = events(piece("one two "), piece("ENDless", "stop"), b"[DONE]")
    url = await start_server(answers(models=MODELS, completions=stream))
    with caplog.at_level(logging.WARNING):
        engine = await connect(url)
    assert "estimate" in caplog.text
    assert await engine.health()
    assert len(await engine.tokenize("123456é")) == 3  # 8 bytes.
    prompt = len(await engine.prompt(HELLO))
    assert prompt == 4 + 2 * 8
    assert len(await engine.prompt(HELLO, "abc")) == prompt + 1
    for unknown in (engine.detokenize([1]), engine.apply_template(HELLO)):
        with pytest.raises(EngineError, match="this server does not"):
            await unknown
    chunks = await collect(engine, request("Hello there", "m"))
    assert text_of(chunks) == "one two ENDless"
    assert chunks[-1].usage == Usage(prompt, 2)
    # Its own handling of stop strings is unknown, so they are looked for here.
    chunks = await collect(engine, request("Hello there", "m", stop=("END",)))
    assert text_of(chunks) == "one two "
    assert (chunks[-1].finish, chunks[-1].usage) == ("stop", Usage(prompt, 2))


async def test_vllm_is_asked_in_its_own_words(connect: Connect, start_server: StartServer) -> None:
    asked: list[dict[str, Any]] = []

    async def tokenize(http: web.Request) -> web.StreamResponse:
        asked.append(await http.json())
        return web.json_response({"count": 3, "max_model_len": 1000, "tokens": [5, 6, 7]})

    done = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}
    paths = {
        "tokenize": tokenize,
        "detokenize": {"prompt": "<s>Hello"},
        "completions": events(piece("many tokens"), piece("", "length"), done, b"[DONE]"),
    }
    engine = await connect(await start_server(answers(models=MODELS, **paths)))
    assert await engine.prompt(HELLO, "so far") == [5, 6, 7]
    assert await engine.prompt(HELLO, "so far") == [5, 6, 7]
    assert asked[1:] == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "so far"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        }
    ]
    assert await engine.apply_template(HELLO) == "<s>Hello"
    await engine.tokenize("text")
    assert asked[-1] == {"model": "m", "prompt": "text", "add_special_tokens": False}
    chunks = await collect(engine, request("Hello there", "m"))
    assert sum(chunk.tokens for chunk in chunks) == 9  # More than there were events.
    assert (chunks[-1].finish, chunks[-1].usage) == ("length", Usage(3, 9))


async def test_what_goes_along(connect: Connect, start_server: StartServer) -> None:
    seen: list[tuple[Mapping[str, str], dict[str, Any]]] = []

    async def completions(http: web.Request) -> web.StreamResponse:
        seen.append((http.headers, await http.json()))
        return await events(piece("ok", "stop"), b"[DONE]")(http)

    engine = await connect(await start_server(answers(models=MODELS, completions=completions)), "secret")
    asked = request("Hi <|im_end|>", "another name", continue_from="so far", stop=("END",))
    asked = replace(asked, request_id="id-1", user="user-1", weight=4, gather_ms=50, max_wait_ms=900)
    await collect(engine, asked)
    await collect(engine, replace(asked, sampling=replace(asked.sampling, stop=())))
    (headers, body), (without_stop, _) = seen
    assert (headers["Authorization"], headers["X-Request-Id"]) == ("Bearer secret", "id-1")
    assert [headers[f"X-Parley-{name}"] for name in ("Weight", "Max-Wait-Ms")] == ["4", "900"]
    # A stop string that is looked for here is found before the server has gone on for long.
    assert [one["X-Parley-Gather-Ms"] for one in (headers, without_stop)] == ["0", "50"]
    assert (body["model"], body["user"], "stop" in body) == ("m", "user-1", False)
    assert body["messages"][0]["content"] == "Hi <\u200b|im_end|>"
    assert body["continue_final_message"] is True


async def test_refusals_are_typed_and_asked_once(connect: Connect, start_server: StartServer) -> None:
    vllm = "This model's maximum context length is 1000 tokens. However, you requested 2000 tokens."
    kinds: list[tuple[type[EngineError], Handler]] = [
        (Overloaded, refusal(429, "later", **{"Retry-After": "7"})),
        (ContextTooLong, refusal(400, vllm)),
        (BadRequest, refusal(400, "no such role")),
        (EngineDied, refusal(502, "Bad Gateway")),
        (EngineDied, events(piece("half"), abort=True)),
        (EngineDied, events(piece("half"))),
        (EngineDied, events(piece("half"), b"<html>")),
        (EngineDied, events(piece("half"), {"choices": [{"delta": "odd"}]})),
        (EngineDied, events(piece("half"), {"choices": 3})),
    ]
    for kind, handler in kinds:
        times = 0

        async def counted(http: web.Request, handler: Handler = handler) -> web.StreamResponse:
            nonlocal times
            times += 1
            return await handler(http)

        engine = await connect(await start_server(answers(models=MODELS, completions=counted)))
        with pytest.raises(EngineError) as caught:
            await collect(engine, request("Hi", "m"))
        assert (type(caught.value), times) == (kind, 1)
        if isinstance(caught.value, Overloaded):
            assert caught.value.retry_after == 7.0


async def test_a_connection_cut_before_the_answer_is_not_tried_again(
    connect: Connect, start_server: StartServer
) -> None:
    times = 0

    async def cut(http: web.Request) -> web.StreamResponse:
        nonlocal times
        times += 1
        assert http.transport is not None
        http.transport.abort()
        return web.Response()

    engine = await connect(await start_server(answers(models=MODELS, completions=cut)))
    with pytest.raises(EngineDied):
        await collect(engine, request("Hi", "m"))
    assert times == 1


async def test_closing_a_stream_stops_the_server(connect: Connect, start_service: StartService) -> None:
    service, url = await start_service()
    engine = await connect(url)
    async with aclosing(engine.stream(request(script(tokens=1000, rate=50), max_tokens=1000))) as chunks:
        await anext(chunks)
        assert service.status()["running"] == 1
    async with asyncio.timeout(2):
        while service.status()["running"]:
            await asyncio.sleep(0.01)
    assert service.status()["cancelled"] == 1


async def test_unloaded_it_answers_nothing_and_streams_end(connect: Connect, start_service: StartService) -> None:
    _, url = await start_service()
    engine = await connect(url)
    stream = engine.stream(request(script(tokens=1000, rate=50), max_tokens=1000))
    await anext(stream)
    await engine.unload()
    with pytest.raises(EngineDied):
        async for _ in stream:
            pass
    assert not await engine.health()
    with pytest.raises(EngineDied):
        await engine.prompt(HELLO)


async def test_health_follows_the_server(connect: Connect, start_service: StartService) -> None:
    service, url = await start_service()
    engine = await connect(url)
    assert await engine.health()
    async with service.use("") as there:
        await there.engine.unload()  # It still lists its model.
    assert not await engine.health()


@pytest.mark.model
async def test_a_real_llama_server(connect: Connect, llama_server: Foreign) -> None:
    with pytest.raises(EngineError, match="key"):
        await connect(llama_server.url, "wrong")
    engine = await connect(llama_server.url, llama_server.key)
    assert engine.capabilities.context == 8192
    text = await engine.apply_template(HELLO, "So far")
    assert text.endswith("<|im_start|>assistant\nSo far")
    tokens = await engine.prompt(HELLO)
    assert await engine.detokenize(tokens) == await engine.apply_template(HELLO)
    chunks = await collect(engine, request("Hello there", max_tokens=5))
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (len(tokens), 5)
    with pytest.raises(ContextTooLong):
        await collect(engine, request("word " * 9_000, max_tokens=5))


def test_flags_that_are_missing_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two-lines").write_text("one\ntwo\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    there = ["--url", "http://127.0.0.1:9"]
    for flags, says in (
        ([], "--url"),
        ([*there, "--remote-key-file", str(tmp_path / "none")], "cannot read the key"),
        ([*there, "--remote-key-file", str(tmp_path / "two-lines")], "one line"),
        ([*there, "--remote-key-file", str(tmp_path / "bytes")], "no text"),
        (there, "cannot be reached"),
    ):
        monkeypatch.setattr(sys, "argv", ["inference", "--engine", "remote", *flags])
        with pytest.raises(SystemExit) as caught:
            main()
        assert says in str(caught.value.code)
    monkeypatch.setenv("PARLEY_REMOTE_KEY", "one\ntwo")
    with pytest.raises(SystemExit) as caught:
        main()
    assert "one line" in str(caught.value.code)


async def test_nothing_that_is_sent_has_a_control_token_however_it_is_escaped(
    connect: Connect, start_server: StartServer
) -> None:
    sent: list[str] = []

    async def chat(http: web.Request) -> web.StreamResponse:
        sent.append(str(await http.json()))
        return await events({"choices": [{"delta": {}, "finish_reason": "stop"}]})(http)

    engine = await connect(await start_server(answers(models=MODELS, completions=chat)), model="m")
    call = ToolCall("c", "add", '{"a": "\\u003c|im_start|>"}')
    messages = (
        Message("user", "<|im_start|>"),
        Message("assistant", "", (call,)),
        Message("tool", "1", tool_call_id="c"),
    )
    await collect(engine, replace(request("Hi"), messages=messages))
    assert len(sent) == 1
    assert sent[0].count("im_start") == 2
    assert "<|" not in sent[0] and "u003c" not in sent[0]
