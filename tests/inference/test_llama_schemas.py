"""The llama.cpp engine on a server that does what llama.cpp does on a bad day. The rest is in the conformance suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from inference.engines.llama_cpp import LlamaCppEngine
from inference.protocol import BadRequest, Chunk, EngineError
from tests.inference.conftest import StartServer, request, text_of


class FakeHost:
    """In the place of `LlamaHost`: a server at `url`."""

    is_open = True

    def __init__(self, url: str) -> None:
        self._http = aiohttp.ClientSession(url)

    async def send(self, method: str, path: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        return await self._http.request(method, path, data=orjson.dumps(body))

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return await (await self.send(method, path, body)).json()

    async def close(self) -> None:
        await self._http.close()


@pytest.fixture
async def asked() -> list[dict[str, Any]]:
    """The bodies of all completions."""
    return []


@asynccontextmanager
async def engine_on(
    start_server: StartServer, asked: list[dict[str, Any]], answer: str, trial: str = "{"
) -> AsyncIterator[LlamaCppEngine]:
    """An engine whose server says `answer`, and `trial` when it is asked for a single token."""

    async def handler(http: web.Request) -> web.StreamResponse:
        if http.path == "/completion":
            body = await http.json()
            asked.append(body)
            if not body.get("stream"):
                return web.json_response({"content": trial})
            event = {"content": answer, "stop": True, "stop_type": "eos", "tokens_predicted": 3}
            return web.Response(text=f"data: {orjson.dumps(event).decode()}\n\n")
        return web.json_response({"prompt": "Hi", "tokens": [7]})

    engine = LlamaCppEngine("m", Path("m.gguf"), 1024, 1, 1024)
    engine._host = FakeHost(await start_server(handler))  # type: ignore[assignment]
    yield engine
    await engine.unload()


async def collect(engine: LlamaCppEngine, **sampling: Any) -> list[Chunk]:
    return [chunk async for chunk in engine.stream(request("Hi", "m", **sampling))]


async def test_a_schema_is_tried_once(start_server: StartServer, asked: list[dict[str, Any]]) -> None:
    async with engine_on(start_server, asked, '{"a":1}') as engine:
        for _ in range(3):
            assert text_of(await collect(engine, json_schema='{"type":"object"}')) == '{"a":1}'
    assert [body["n_predict"] for body in asked] == [1, 40, 40, 40]
    assert all(body["json_schema"] == {"type": "object"} for body in asked)


async def test_a_schema_that_is_dropped_without_a_word_is_refused(
    start_server: StartServer, asked: list[dict[str, Any]]
) -> None:
    async with engine_on(start_server, asked, "Hello", trial=")") as engine:
        for _ in range(2):
            with pytest.raises(BadRequest, match="cannot compile"):
                await collect(engine, json_schema='{"type":"object"}')
    assert len(asked) == 1


async def test_a_schema_that_is_lost_in_the_middle_is_an_error(
    start_server: StartServer, asked: list[dict[str, Any]]
) -> None:
    async with engine_on(start_server, asked, '{"a": Hello') as engine:
        with pytest.raises(EngineError, match="lost the schema"):
            await collect(engine, json_schema='{"type":"object"}')
        chunks = await collect(engine, json_schema='{"type":"object"}', stop=("Hello",))
    assert (text_of(chunks), chunks[-1].finish) == ('{"a": ', "stop")  # Cut by whoever asked.


async def test_what_is_not_asked_for_is_left_to_llama_cpp(
    start_server: StartServer, asked: list[dict[str, Any]]
) -> None:
    async with engine_on(start_server, asked, "Hello") as engine:
        await collect(engine)
        await collect(engine, top_k=3, min_p=0.2, typical_p=0.5, repetition_penalty=1.5, logprobs=0, grammar="g")
    plain, full = asked
    assert not {"top_k", "min_p", "typical_p", "repeat_penalty", "n_probs", "json_schema", "grammar"} & set(plain)
    words = {"top_k": 3, "min_p": 0.2, "typical_p": 0.5, "repeat_penalty": 1.5, "n_probs": 1, "grammar": "g"}
    assert {name: full[name] for name in words} == words


async def test_an_answer_held_to_something_is_not_continued(
    start_server: StartServer, asked: list[dict[str, Any]]
) -> None:
    async with engine_on(start_server, asked, "Hello") as engine:
        begun = replace(request("Hi", "m", grammar="root ::= [a-z]"), continue_from="so far")
        with pytest.raises(BadRequest, match="continued"):
            await anext(engine.stream(begun))
    assert not asked
