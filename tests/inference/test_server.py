"""The HTTP interface itself: shapes, statuses, keys, refusals, numbers."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from openai import APIStatusError, AsyncOpenAI

from inference.client import InferenceClient
from inference.engines.scripted import scripted_text
from inference.protocol import EngineError, Message, Overloaded
from inference.server import application
from inference.service import Service
from tests.inference.conftest import StartService, collect, request, script


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
        (ask(top_p=0), "top_p"),
        (ask(temperature=-1), "temperature"),
        (ask(presence_penalty=3), "presence_penalty"),
        (ask(stop=["x"] * 65), "stop"),
        (ask(stop=""), "stop"),
        (ask(n=2), "n"),
        (ask(stream="yes"), "stream"),
        (ask(tools=[{"type": "function"}]), "tools"),
        (ask(response_format={"type": "json_object"}), "response_format"),
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


async def test_while_it_loads_it_says_so(start_service: StartService) -> None:
    service, url = await start_service(load=False)
    client = InferenceClient(url)
    assert not await client.health()
    with pytest.raises(Overloaded, match="loading"):
        await collect(client, request("x"))
    with pytest.raises(Overloaded):
        await client.count("scripted", [Message("user", "x")])
    assert not (await client.models())[0].ready
    await service.start()
    assert await client.health()
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
    assert 'parley_inference_requests_total{outcome="completed"} 3.0' in text
    assert 'parley_inference_cancelled_total{stage="decode"} 1.0' in text
    assert "parley_inference_ttft_seconds_count 4.0" in text
    assert "parley_inference_running 0.0" in text
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

    monkeypatch.setattr(service.engine, "prompt", broken)
    status, _, answer = await post(url, ask())
    assert (status, answer["error"]["code"]) == (500, "engine_error")
    assert service.status()["running"] == 0


async def test_an_engine_that_cannot_load_is_reported() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise EngineError("no such file")

    service = Service(Broken())
    with pytest.raises(EngineError):
        await service.start()
    assert (service.state, service.error) == ("failed", "no such file")
    assert application(service)
