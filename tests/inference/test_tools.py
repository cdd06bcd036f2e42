"""Tools and reasoning from the engine through the service to its clients, and what other servers send instead."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from inference.client import InferenceClient
from inference.continuation import SteadyClient
from inference.engines.remote import RemoteEngine
from inference.engines.scripted import ScriptedEngine, scripted_text
from inference.models import Models
from inference.protocol import BadRequest, Chunk, Message, Request, Sampling, Tool, ToolCall, Usage
from tests.inference.conftest import StartServer, StartService, collect, request, script, text_of

ADD = Tool("add", "Adds two numbers.", '{"type":"object","properties":{"a":{"type":"number"}}}')
CALLS = [{"name": "add", "arguments": {"a": 17}}, {"name": "add", "arguments": "{oops"}]


def asks(tool_choice: str = "auto", max_tokens: int = 200, **directive: Any) -> Request:
    made = request(script(**directive), max_tokens=max_tokens)
    return replace(made, tools=(ADD,), tool_choice=tool_choice)


def thought(chunks: list[Chunk]) -> str:
    return "".join(chunk.reasoning for chunk in chunks).rstrip()


def counted(chunks: list[Chunk]) -> int:
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == sum(chunk.tokens for chunk in chunks)
    return usage.completion_tokens


@pytest.fixture
async def started(start_service: StartService) -> AsyncIterator[tuple[Models, InferenceClient]]:
    models, url = await start_service()
    client = InferenceClient(url)
    yield models, client
    await client.close()


Started = tuple[Models, InferenceClient]


@pytest.mark.parametrize("think", [False, True])
@pytest.mark.parametrize("rate", [0, 400])
async def test_reasoning_text_and_calls_arrive_apart_and_whole(started: Started, think: bool, rate: float) -> None:
    models, client = started
    chunks = await collect(
        client, asks(reasoning="I need a sum. Yes.", text="Let me add.", calls=CALLS, think=think, rate=rate)
    )
    assert thought(chunks) == "I need a sum. Yes."
    assert text_of(chunks) == "Let me add."
    last = chunks[-1]
    assert last.finish == "tool_calls"
    assert [(call.name, call.arguments) for call in last.calls] == [("add", '{"a": 17}'), ("add", "{oops")]
    assert len({call.id for call in last.calls}) == 2
    assert not any(chunk.calls for chunk in chunks[:-1])
    assert counted(chunks) == 5 + 3 + 3 + 2
    status = models.status()
    assert (status["tool_calls"], status["reasoning_tokens"] > 0) == (2, rate > 0)


async def test_the_answer_to_a_result_is_what_the_script_says(started: Started) -> None:
    _, client = started
    call = ToolCall("c1", "add", '{"a": 17}')
    results = (Message("assistant", "", (call,)), Message("tool", "42", tool_call_id="c1"))
    nested = {"calls": CALLS[:1], "then": {"text": "Done."}}
    for then, rounds, text, finish in (
        (None, 1, "The result is 42.", "stop"),
        ({"text": "It is so."}, 1, "It is so.", "stop"),
        (nested, 1, "", "tool_calls"),
        (nested, 2, "Done.", "stop"),
    ):
        asked = asks(calls=CALLS[:1], **({"then": then} if then else {}))
        chunks = await collect(client, replace(asked, messages=asked.messages + results * rounds))
        assert (text_of(chunks), chunks[-1].finish) == (text, finish)
    again = asks(calls=CALLS[:1])
    chunks = await collect(client, replace(again, messages=(*again.messages, *results, *again.messages)))
    assert chunks[-1].finish == "tool_calls", "a new question of the user begins anew"


async def test_who_chooses_no_tool_gets_none(started: Started) -> None:
    _, client = started
    chunks = await collect(client, asks(text="Without.", calls=CALLS, tool_choice="none"))
    assert (text_of(chunks), chunks[-1].finish, chunks[-1].calls) == ("Without.", "stop", ())


async def test_a_call_that_does_not_fit_is_none(started: Started) -> None:
    _, client = started
    chunks = await collect(client, asks(text="Let me add.", calls=CALLS, max_tokens=5))
    assert (chunks[-1].finish, chunks[-1].calls, counted(chunks)) == ("length", (), 5)


async def test_the_official_client_reads_calls_and_reasoning(start_service: StartService) -> None:
    _, url = await start_service()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as openai:
        question = {"role": "user", "content": script(reasoning="Hm. So.", calls=CALLS, rate=500)}
        tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
        asked: Any = {"model": "scripted", "messages": [question], "tools": tools}
        whole = await openai.chat.completions.create(**asked)
        (choice,) = whole.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert choice.message.model_extra == {"reasoning_content": "Hm. So."}
        assert choice.message.tool_calls is not None
        calls = [call for call in choice.message.tool_calls if call.type == "function"]
        assert [call.function.arguments for call in calls] == ['{"a": 17}', "{oops"]

        deltas = [event.choices[0].delta async for event in await openai.chat.completions.create(**asked, stream=True)]
        assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "Hm. So."
        assert [delta.role for delta in deltas if delta.role] == ["assistant"]
        pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
        named = [(one.index, one.function.name, bool(one.id)) for one in pieces if one.function and one.function.name]
        assert named == [(0, "add", True), (1, "add", True)]
        argued = [(one.index, one.function.arguments) for one in pieces if one.function and one.function.arguments]
        assert argued == [(0, '{"a": 17}'), (1, "{oops")]

        results = [{"role": "tool", "tool_call_id": call.id, "content": "42"} for call in calls]
        messages = [question, choice.message.model_dump(exclude_none=True), *results]
        messages[1].pop("reasoning_content")
        asked["messages"] = messages
        then = await openai.chat.completions.create(**asked)
        assert then.choices[0].message.content == "The result is 42."


def saying(*deltas: Any, finish: str | None = "stop") -> bytes:
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


Reads = Callable[..., Any]


@pytest.fixture
async def reads(start_server: StartServer) -> AsyncIterator[Reads]:
    """What a client reads from a server that sends these bytes, one in each read where they are several."""
    clients: list[InferenceClient] = []

    async def read(*writes: bytes, **options: Any) -> list[Chunk]:
        async def handler(http: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(http)
            for data in writes:
                await response.write(data)
                await asyncio.sleep(0.01)
            return response

        client = InferenceClient(await start_server(handler))
        clients.append(client)
        return await collect(client, replace(request("x"), **options))

    yield read
    for client in clients:
        await client.close()


@pytest.mark.parametrize("word", ["reasoning_content", "reasoning"])
async def test_reasoning_of_other_servers(reads: Reads, word: str) -> None:
    chunks = await reads(saying({"role": "assistant", "content": ""}, {word: "why"}, {"content": "<think>so</think>"}))
    assert (thought(chunks), text_of(chunks)) == ("why", "<think>so</think>")


async def test_raw_reasoning_of_other_servers(reads: Reads) -> None:
    pieces = saying({"content": "<thi"}), saying({"content": "nk>why"}, {"content": "</think>so <think>"})
    chunks = await reads(pieces[0].partition(b'data: {"choices":[{"index":0,"delta":{},')[0], pieces[1])
    assert (thought(chunks), text_of(chunks)) == ("why", "so <think>")
    assert sum(chunk.tokens for chunk in chunks) == 3
    chunks = await reads(saying({"content": " it.</think>so"}), continue_reasoning="I see")
    assert (thought(chunks), text_of(chunks)) == (" it.", "so")
    chunks = await reads(saying({"content": "<think>so</think>"}), continue_from="So")
    assert (thought(chunks), text_of(chunks)) == ("", "<think>so</think>")


async def test_thoughts_behind_text_stay_behind_it(reads: Reads) -> None:
    chunks = await reads(saying({"content": "a"}, {"reasoning": "b"}, {"content": "c"}))
    assert [(chunk.reasoning, chunk.text) for chunk in chunks] == [("", "a"), ("b", "c")]


@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "stop"])
async def test_calls_of_other_servers(reads: Reads, finish: str) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}
    chunks = await reads(saying({"content": "So."}, {"tool_calls": [call]}, {"tool_calls": [more]}, finish=finish))
    assert (chunks[-1].finish, chunks[-1].calls) == ("tool_calls", (ToolCall("c1", "add", "{}"),))
    assert sum(chunk.tokens for chunk in chunks) == 3
    chunks = await reads(saying({"content": "So."}, {"tool_calls": [call]}, finish="length"))
    assert (chunks[-1].finish, chunks[-1].calls) == ("length", ())
    chunks = await reads(saying({"content": "So."}, finish="tool_calls"))
    assert (chunks[-1].finish, chunks[-1].calls) == ("stop", ())


async def test_what_is_sent_is_what_openai_takes(start_server: StartServer) -> None:
    seen: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        seen.append(await http.json())
        return web.Response(body=saying({"content": "ok"}))

    client = InferenceClient(await start_server(handler))
    call = ToolCall("c1", "add", '{"a": 1}')
    messages = (
        Message("user", "Add."),
        Message("assistant", "", (call,)),
        Message("tool", "42", tool_call_id="c1"),
    )
    plain = Tool("now")
    for choice in ("auto", "none", "required", "now"):
        asked = Request("m", messages, Sampling(9), tools=(ADD, plain), tool_choice=choice)
        await collect(client, asked)
    await collect(client, Request("m", messages[:1], Sampling(9), "So", continue_reasoning="Hm", tool_choice="none"))
    await client.close()
    function = {"name": "add", "description": ADD.description, "parameters": json.loads(ADD.parameters)}
    assert seen[0]["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "now"}},
    ]
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    assert seen[0]["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]
    named = {"type": "function", "function": {"name": "now"}}
    assert [body.get("tool_choice") for body in seen] == [None, "none", "required", named, None]
    assert "tools" not in seen[4]
    assert seen[4]["messages"][1] == {"role": "assistant", "content": "<think>\nHm\n</think>\n\nSo"}


@pytest.mark.parametrize("think", [False, True])
@pytest.mark.parametrize("drop_at", [2, 5, 6, 8])
async def test_an_engine_that_dies_while_it_thinks_says_or_calls(started: Started, think: bool, drop_at: int) -> None:
    """It drops in the middle of the thought, at its end, behind the first word, before the calls."""
    _, client = started
    asked = asks(
        reasoning="I need a sum. Yes.", text="Let me add.", calls=CALLS, think=think, rate=1000, drop_at=drop_at
    )
    chunks = [chunk async for chunk in SteadyClient(client).stream(asked)]
    assert (thought(chunks), text_of(chunks)) == ("I need a sum. Yes.", "Let me add.")
    assert (chunks[-1].finish, len(chunks[-1].calls), counted(chunks)) == ("tool_calls", 2, 13)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == await client.count("scripted", asked.messages, "", asked.tools)
    assert [chunk.prompt_tokens is None for chunk in chunks] == [False] + [True] * (len(chunks) - 1)


async def test_a_script_that_drifts_shows_its_seams_and_keeps_its_length(started: Started) -> None:
    _, client = started
    asked = request(script(tokens=50, rate=1000, drop_at=20, drift=True), max_tokens=100)
    chunks = [chunk async for chunk in SteadyClient(client).stream(asked)]
    straight = scripted_text({"tokens": 50}).split()
    words = text_of(chunks).split()
    assert (len(words), counted(chunks)) == (50, 50)
    assert words[:20] == straight[:20]
    assert words[20:] != straight[20:]
    again = [chunk async for chunk in SteadyClient(client).stream(asked)]
    assert text_of(again) == text_of(chunks)


async def test_the_first_event_says_what_the_prompt_has_if_the_reader_is_ours(start_service: StartService) -> None:
    _, url = await start_service()
    client = InferenceClient(url)
    asked = request(script(tokens=20, rate=400))
    chunks = await collect(client, asked)
    count = await client.count("scripted", asked.messages)
    assert [chunk.prompt_tokens for chunk in chunks] == [count] + [None] * (len(chunks) - 1)
    assert (await collect(client, request(script(tokens=1))))[0].prompt_tokens is not None
    await client.close()
    body = {"messages": [{"role": "user", "content": script(tokens=5)}], "stream": True}
    async with aiohttp.ClientSession() as http:
        text = await (await http.post(f"{url}/v1/chat/completions", json=body)).text()
    assert "prompt_tokens" not in text


async def test_other_servers_say_it_with_their_usage(reads: Reads) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    chunks = await reads(saying({"content": "a"}).replace(b"data: [DONE]", usage + b"data: [DONE]"))
    assert (chunks[-1].prompt_tokens, chunks[-1].usage) == (7, Usage(7, 2))
    assert all(chunk.prompt_tokens is None for chunk in await reads(saying({"content": "a"})))


async def test_tools_are_part_of_what_is_counted(started: Started) -> None:
    _, client = started
    asked = asks(tokens=3)
    chunks = await collect(client, asked)
    assert chunks[-1].usage is not None
    with_tools = await client.count("scripted", asked.messages, "", asked.tools)
    assert with_tools == chunks[-1].usage.prompt_tokens > await client.count("scripted", asked.messages)


async def test_an_engine_that_knows_no_tools_says_so(start_service: StartService) -> None:
    class Plain(ScriptedEngine):
        @property
        def capabilities(self) -> Any:
            return replace(super().capabilities, abilities=frozenset())

    _, url = await start_service(engine=Plain())
    client = InferenceClient(url)
    asked = request("x")
    history = (Message("user", "x"), Message("assistant", "", (ToolCall("1", "add", "{}"),)))
    for refused in (
        replace(asked, tools=(ADD,)),
        replace(asked, messages=history),
        replace(asked, messages=(Message("tool", "42", tool_call_id="1"),)),
    ):
        with pytest.raises(BadRequest, match="no tools"):
            await collect(client, refused)
        with pytest.raises(BadRequest, match="no tools"):
            await client.count("scripted", refused.messages, "", refused.tools)
    assert (await client.models())[0].abilities == ()
    await client.close()


async def test_the_remote_engine_passes_tools_and_reasoning_on(start_service: StartService) -> None:
    _, behind = await start_service()
    _, url = await start_service(engine=RemoteEngine(behind, model="scripted"))
    client = InferenceClient(url)
    asked = asks(reasoning="Hm. So.", text="Let me add.", calls=CALLS, rate=500)
    chunks = await collect(client, asked)
    assert (thought(chunks), text_of(chunks), chunks[-1].finish) == ("Hm. So.", "Let me add.", "tool_calls")
    assert [call.arguments for call in chunks[-1].calls] == ['{"a": 17}', "{oops"]
    assert counted(chunks) == 10
    (card,) = await client.models()
    assert "tools" in card.abilities
    assert chunks[0].prompt_tokens == await client.count("scripted", asked.messages, "", asked.tools)
    await client.close()


TOOL = {"type": "function", "function": {"name": "add"}}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "further", "says"),
    [
        ([{"role": "assistant"}], {}, "content is missing"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], {}, "only an assistant"),
        ([{"role": "tool", "content": "x"}], {}, "tool_call_id"),
        ([{"role": "user", "content": "x", "tool_call_id": "1"}], {}, "tool_call_id"),
        ([{"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": ""}]}], {}, "id"),
        ([{"role": "assistant", "content": None, "tool_calls": [{**CALL, "type": "x"}]}], {}, "type"),
        (None, {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "name"),
        (None, {"tools": [TOOL, TOOL]}, "same name"),
        (None, {"tools": [TOOL] * 129}, "128"),
        (None, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "'sub'"),
        (None, {"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        (None, {"tool_choice": "required"}, "tools to choose"),
        (None, {"functions": [TOOL]}, "functions"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(
    start_service: StartService, messages: Any, further: dict[str, Any], says: str
) -> None:
    _, url = await start_service()
    body = {"messages": messages or [{"role": "user", "content": "x"}], **further}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 400
        assert says in (await answer.json())["error"]["message"]
