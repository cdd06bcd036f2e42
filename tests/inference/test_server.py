"""The HTTP interface itself: shapes, statuses, keys, refusals, numbers."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from openai import APIStatusError, AsyncOpenAI

from inference.body import Completion, parse
from inference.client import InferenceClient
from inference.engines.scripted import ScriptedEngine, scripted_text
from inference.protocol import EngineError, Message, Overloaded
from tests.inference.conftest import Slow, StartService, collect, hosting, request, script, text_of


async def post(url: str, body: Any, path: str = "/v1/chat/completions") -> tuple[int, dict[str, str], Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as http, http.post(url + path, data=data) as answer:
        return answer.status, dict(answer.headers), await answer.json()


def ask(**body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": script(tokens=5)}], **body}


async def test_the_official_client_works(start_service: StartService) -> None:
    _, url = await start_service(key="k")
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as openai:
        whole = await openai.chat.completions.create(model="scripted", messages=ask()["messages"], max_tokens=50)
        assert whole.choices[0].message.content == scripted_text({"tokens": 5})
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert (whole.usage.completion_tokens, whole.usage.total_tokens) == (5, whole.usage.prompt_tokens + 5)
        stream = await openai.chat.completions.create(
            model="scripted", messages=ask()["messages"], stream=True, stream_options={"include_usage": True}
        )
        events = [event async for event in stream]
        assert events[0].choices[0].delta.role == "assistant"
        text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        assert text == scripted_text({"tokens": 5})
        assert events[-1].usage is not None
        assert events[-1].usage == whole.usage
        assert len({event.id for event in events}) == 1
        assert [model.id async for model in openai.models.list()] == ["scripted"]
        with pytest.raises(APIStatusError) as caught:
            await openai.chat.completions.create(model="other", messages=ask()["messages"])
        assert caught.value.status_code == 404


async def test_no_usage_unless_asked(start_service: StartService) -> None:
    _, url = await start_service()
    async with aiohttp.ClientSession() as http:
        answer = await http.post(f"{url}/v1/chat/completions", json=ask(stream=True))
        text = await answer.text()
    assert '"usage"' not in text
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'"\\ud800"', "JSON"),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content"),
        (ask(max_tokens=0), "max_tokens"),
        (ask(max_tokens="many"), "max_tokens"),
        (ask(user="u" * 513), "user"),
        (ask(top_p=0), "top_p"),
        (ask(temperature=-1), "temperature"),
        (ask(presence_penalty=3), "presence_penalty"),
        (ask(stop=["x"] * 65), "stop"),
        (ask(stop=""), "stop"),
        (ask(n=2), "n"),
        (ask(stream="yes"), "stream"),
        (ask(tools=[{"type": "function"}]), "tools"),
        (ask(tools=None, guided_json={"type": "object"}), "guided_json"),
        (ask(stop="x" * 501), "stop"),
        (ask(stop=[str(n) for n in range(10_000)]), "stop"),
        (ask(max_tokens=5, max_completion_tokens=6), "max_completion_tokens"),
        (ask(top_logprobs=3), "logprobs: true"),
        (ask(logprobs=False, top_logprobs=3), "logprobs: true"),
        (ask(logprobs=True, top_logprobs=21), "top_logprobs"),
        (ask(logprobs=3), "logprobs"),
        (ask(top_k=-2), "top_k"),
        (ask(top_k=1.5), "top_k"),
        (ask(min_p=1.01), "min_p"),
        (ask(typical_p=0), "typical_p"),
        (ask(repetition_penalty=0), "repetition_penalty"),
        (b'{"messages":[{"role":"user","content":"x"}],"min_p":NaN}', "JSON"),
        (b'{"messages":[{"role":"user","content":"x"}],"top_p":1e400}', "JSON"),
        (ask(response_format={"type": "xml"}), "response_format"),
        (ask(response_format={"type": "json_schema"}), "belong together"),
        (ask(response_format={"type": "json_object", "json_schema": {"schema": {}}}), "belong together"),
        (ask(response_format={"type": "json_schema", "json_schema": {"schema": {"type": 3}}}), "/type"),
        (ask(response_format={"type": "json_schema", "json_schema": {"name": "x"}}), "must be an object"),
        (ask(response_format={"type": "json_object"}, grammar="root ::= [a-z]"), "exclude"),
        (ask(grammar="root ::= [a-z]" + " " * 2**20), "grammar"),
        (ask(grammar="root ::= [a-z]"), "which has no grammar"),
        (ask(response_format={"type": "json_object"}), "which has no json_schema"),
        (ask(continue_final_message=True), "assistant"),
        ({"messages": [{"role": "assistant", "content": "x"}], "continue_final_message": True}, "before"),
    ],
)
async def test_a_bad_body_is_refused_with_the_reason(start_service: StartService, body: Any, says: str) -> None:
    service, url = await start_service()
    status, _, answer = await post(url, body)
    assert status == 400
    assert says in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert service.status()["completed"] == 0


async def test_the_official_client_reads_log_probabilities_and_vectors(start_service: StartService) -> None:
    _, url = await start_service()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as openai:
        asked: Any = {"model": "scripted", "messages": ask()["messages"], "logprobs": True, "top_logprobs": 2}
        whole = await openai.chat.completions.create(**asked)
        stream = await openai.chat.completions.create(**asked, stream=True)
        streamed = [
            one
            async for event in stream
            for choice in event.choices
            if choice.logprobs and choice.logprobs.content
            for one in choice.logprobs.content
        ]
        logprobs = whole.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content == streamed
        assert b"".join(bytes(one.bytes or ()) for one in streamed).decode() == whole.choices[0].message.content
        assert {len(one.top_logprobs) for one in streamed} == {2}
        # It asks for base64 unless it is told otherwise.
        packed = await openai.embeddings.create(model="scripted", input=["a", "b c"])
        plain = await openai.embeddings.create(model="scripted", input="b c", encoding_format="float")
        assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding)
        assert [entry.index for entry in packed.data] == [0, 1]
        assert packed.usage.prompt_tokens == packed.usage.total_tokens == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"input": ""}, 400),
        ({"input": []}, 400),
        ({"input": ["a", ""]}, 400),
        ({"input": [[1, 2]]}, 400),
        ({"input": ["a"] * 2_049}, 400),
        ({"input": "a", "encoding_format": "hex"}, 400),
        ({"input": "a", "dimensions": 8}, 400),
        ({"input": "a", "model": "other"}, 404),
    ],
)
async def test_vectors_of_nothing_or_too_much_are_refused(start_service: StartService, body: Any, status: int) -> None:
    _, url = await start_service()
    answered, _, answer = await post(url, body, "/v1/embeddings")
    assert (answered, bool(answer["error"]["message"])) == (status, True)


async def test_vectors_take_their_turn(start_service: StartService) -> None:
    service, url = await start_service(slots=1)
    client = InferenceClient(url)
    stream = client.stream(request(script(tokens=1000, rate=50), max_tokens=1000))
    await anext(stream)
    waiting = asyncio.create_task(client.embed("scripted", ["one two"], "someone"))
    while not service.status()["waiting"]:
        await asyncio.sleep(0.005)
    await stream.aclose()
    assert (await asyncio.wait_for(waiting, 2)).tokens == 2
    assert service.status()["embedded_tokens"] == 2
    await client.close()


async def test_continuing_and_a_new_generation_prompt_exclude_each_other(start_service: StartService) -> None:
    _, url = await start_service()
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    status, _, answer = await post(
        url, {"messages": messages, "continue_final_message": True, "add_generation_prompt": True}
    )
    assert (status, "exclude" in answer["error"]["message"]) == (400, True)


async def test_text_parts_and_developer_messages_are_taken(start_service: StartService) -> None:
    _, url = await start_service()
    messages = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": '{"script":'}, {"type": "text", "text": '{"tokens":3}}'}],
        },
    ]
    status, _, answer = await post(url, {"messages": messages, "max_completion_tokens": 9})
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == scripted_text({"tokens": 3})


async def test_a_body_that_is_too_big(start_service: StartService) -> None:
    _, url = await start_service()
    status, _, answer = await post(url, b" " * (17 * 2**20))
    assert status == 413
    assert answer["error"]["message"]


async def test_everything_but_health_wants_the_key(start_service: StartService) -> None:
    _, url = await start_service(key="right")
    async with aiohttp.ClientSession() as http:
        assert (await http.get(f"{url}/health")).status == 200
        for path in ("/v1/models", "/metrics", "/status", "/nowhere"):
            assert (await http.get(url + path)).status == 401
            assert (await http.get(url + path, headers={"Authorization": "Bearer wrong"})).status == 401
        assert (await http.get(f"{url}/v1/models", headers={"Authorization": "Bearer right"})).status == 200
        unknown = await http.get(f"{url}/nowhere", headers={"Authorization": "Bearer right"})
        assert (unknown.status, "error" in await unknown.json()) == (404, True)


async def test_who_asks_while_it_loads_waits_as_long_as_they_like(start_service: StartService) -> None:
    engine = Slow()
    models, url = await start_service(load=False, engine=engine)
    starting = asyncio.create_task(models.start())
    await asyncio.sleep(0)
    client = InferenceClient(url)
    assert not await client.health()
    (card,) = await client.models()
    assert (card.ready, card.state) == (False, "loading")
    with pytest.raises(Overloaded, match="loaded"):
        await collect(client, replace(request("x"), max_wait_ms=20))
    waiting = asyncio.create_task(collect(client, request(script(tokens=3))))
    counting = asyncio.create_task(client.count("scripted", [Message("user", "x")]))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert not counting.done()
    engine.let.set()
    await starting
    assert text_of(await waiting) == scripted_text({"tokens": 3})
    assert await counting > 0
    assert await client.health()
    assert (await client.models())[0].state == "ready"
    await client.close()


async def test_a_full_queue_refuses_at_once(start_service: StartService) -> None:
    service, url = await start_service(slots=1, queue_limit=2)
    client = InferenceClient(url)
    tasks = [asyncio.create_task(collect(client, request(script(tokens=40, rate=40)))) for _ in range(3)]
    while service.status()["waiting"] < 2:
        await asyncio.sleep(0.005)
    status, headers, answer = await post(url, ask())
    assert (status, answer["error"]["code"]) == (429, "overloaded")
    assert int(headers["Retry-After"]) >= 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


async def test_a_long_wait_is_filled_with_comments(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.server.QUIET_S", 0.05)
    _, url = await start_service()
    async with aiohttp.ClientSession() as http:
        body = {"messages": [{"role": "user", "content": script(tokens=3, prefill_s=0.2)}], "stream": True}
        text = await (await http.post(f"{url}/v1/chat/completions", json=body)).text()
        body["messages"] = [{"role": "user", "content": script(prefill_s=0.2, drop_at=0)}]
        with pytest.raises(aiohttp.ClientPayloadError):
            await (await http.post(f"{url}/v1/chat/completions", json=body)).text()
    assert text.startswith(": waiting\n\n")
    client = InferenceClient(url)
    assert len(await collect(client, request(script(tokens=3, prefill_s=0.2)))) == 1
    await client.close()


async def test_the_numbers_add_up(start_service: StartService) -> None:
    service, url = await start_service()
    client = InferenceClient(url)
    for _ in range(3):
        await collect(client, request(script(tokens=10)))
    stream = client.stream(request(script(tokens=100, rate=50)))
    await anext(stream)
    await stream.aclose()
    while service.status()["cancelled"] < 1:
        await asyncio.sleep(0.005)
    async with aiohttp.ClientSession() as http:
        text = await (await http.get(f"{url}/metrics")).text()
    assert 'parley_inference_requests_total{model="scripted",outcome="completed"} 3.0' in text
    assert 'parley_inference_cancelled_total{model="scripted",stage="decode"} 1.0' in text
    assert 'parley_inference_ttft_seconds_count{model="scripted"} 4.0' in text
    assert 'parley_inference_running{model="scripted"} 0.0' in text
    status = service.status()
    assert (status["requests"], status["completed"], status["cancelled"]) == (4, 3, 1)
    assert 30 < status["completion_tokens"] < 130
    await client.close()


async def test_a_fault_of_our_own_is_an_error_in_the_same_shape(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = await start_service()

    async def broken(*_: object) -> list[int]:
        raise ZeroDivisionError

    async with service.use("") as loaded:
        monkeypatch.setattr(loaded.engine, "prompt", broken)
    status, _, answer = await post(url, ask())
    assert (status, answer["error"]["code"]) == (500, "engine_error")
    assert service.status()["running"] == 0


async def test_an_engine_that_cannot_load_is_reported() -> None:
    class Broken(ScriptedEngine):
        async def load(self) -> None:
            raise EngineError("no such file")

    models = hosting(Broken())
    with pytest.raises(EngineError):
        await models.start()
    assert (models.status()["state"], models.status()["error"]) == ("failed", "no such file")
    assert not await models.healthy()
    await models.close()


@pytest.mark.parametrize("header", ["0", "1001", "-1", "1.5", "٣", "many", "000000001999", "000000001" + "9" * 5_000])
def test_a_weight_that_makes_no_sense_is_one(header: str) -> None:
    asked = parse(Completion, ask(user="someone"))
    assert asked.request({"X-Parley-Weight": header, "X-Parley-Max-Wait-Ms": header}).weight == 1
    assert asked.request({"X-Parley-Weight": "1000"}).weight == 1000
