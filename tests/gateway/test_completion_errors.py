"""What goes wrong once a call's turn has begun: a program must not lose its answer for nothing, nor pay twice for it.

OpenAI's clients ask again by themselves after a 5xx, unless `x-should-retry` says that they should not.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import openai
import pytest

from chat_app.data.db.base import DatabaseUnavailable, OutcomeUnknown
from chat_app.data.log import mirror
from chat_app.data.log.base import LogUnavailable
from chat_app.gateway.completions_route import PATH
from chat_app.sessions.viewer import Update, Viewer
from chat_app.turn import hold
from inference.protocol import BadRequest, Chunk, Request
from tests.gateway.leaving import rows
from tests.gateway.served import Served
from tests.parley import expected, script

DETACHED = {"X-Parley-Detach": "true"}


async def call(
    served: Served, question: str, *, stream: bool, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], list[dict[str, Any]]]:
    """Status, headers, and the body's one object or those of a stream's events."""
    body = {"model": "scripted", "stream": stream, "messages": [{"role": "user", "content": question}]}
    headers = {**served.bearer, **(headers or {})}
    async with served.http.post(served.url + PATH, json=body, headers=headers) as response:
        text = await response.text()
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        sent = [line for line in lines if line != "[DONE]"] if stream else [text]
        return (
            response.status,
            {name.lower(): value for name, value in response.headers.items()},
            [json.loads(one) for one in sent],
        )


def breaks_off(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have every viewer raise this behind its first text."""
    follow = Viewer.follow

    async def broken(self: Viewer, *args: Any, **options: Any) -> AsyncGenerator[Update, None]:
        async with aclosing(follow(self, *args, **options)) as updates:
            async for update in updates:
                yield update
                if update.entries:
                    raise error

    monkeypatch.setattr(Viewer, "follow", broken)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_database_that_is_away_in_a_silence_costs_nothing(
    served_anywhere: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "QUIET_S", 0.1)
    generations = type(served_anywhere.parley.generations)
    status, away = generations.status, [DatabaseUnavailable("the database cannot be reached")] * 2

    async def blinking(*args: Any) -> str | None:
        if away:
            raise away.pop()
        return await status(*args)

    monkeypatch.setattr(generations, "status", blinking)
    client, question = served_anywhere.client(max_retries=2), script(tokens=20, rate=0, seed=1, prefill_s=1.0)
    asked = {"model": "scripted", "messages": [{"role": "user", "content": question}]}
    if stream:
        chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = (await client.chat.completions.create(**asked)).choices[0].message.content
    assert text == expected(question)
    assert away == []
    assert list((await rows(served_anywhere)).values()) == ["done"]


STORES = [DatabaseUnavailable("the database cannot be reached"), LogUnavailable("the log is closed")]


@pytest.mark.parametrize("error", [*STORES, RuntimeError("secret detail")])
async def test_a_call_that_breaks_off_is_stopped_named_and_not_made_again(
    served: Served, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    breaks_off(monkeypatch, error)
    status, headers, [said] = await call(served, script(tokens=2_000, rate=50), stream=False)
    assert (status, said["error"]["code"]) == (
        (503, "generation_failed") if error in STORES else (500, "internal_error")
    )
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    [(generation, end)] = (await rows(served)).items()
    assert (headers["x-parley-generation"], end) == (generation, "stopped")
    assert f"/v1/generations/{generation}" in said["error"]["message"]
    assert "secret" not in said["error"]["message"]
    words = "storage unavailable" if error in STORES else "unforeseen error"
    assert caplog.text.count(words) == 1


async def test_openais_client_pays_once_for_a_call_that_breaks_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_off(monkeypatch, STORES[0])
    with pytest.raises(openai.InternalServerError):
        await served.client(max_retries=2).chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": script(tokens=2_000, rate=50)}]
        )
    assert list((await rows(served)).values()) == ["stopped"]


async def test_a_stream_that_breaks_off_is_stopped_and_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks_off(monkeypatch, STORES[0])
    status, headers, events = await call(served, script(tokens=2_000, rate=50), stream=True)
    assert (status, events[-1]["error"]["code"]) == (200, "generation_failed")
    [(generation, end)] = (await rows(served)).items()
    assert (headers["x-parley-generation"], end) == (generation, "stopped")
    assert f"/v1/generations/{generation}" in events[-1]["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_detached_call_that_breaks_off_goes_on_under_its_name(
    served: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_off(monkeypatch, STORES[0])
    question = script(tokens=30, rate=60, seed=2)
    _, headers, said = await call(served, question, stream=stream, headers=DETACHED)
    assert said[-1]["error"]["code"] == "generation_failed"
    assert stream or headers["x-should-retry"] == "false"
    assert await rows(served) == {headers["x-parley-generation"]: "done"}
    monkeypatch.undo()
    async with served.http.get(
        f"{served.url}/v1/generations/{headers['x-parley-generation']}", headers=served.bearer
    ) as response:
        assert (await response.json())["text"] == expected(question)


async def test_an_error_before_the_turn_names_none(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise STORES[0]

    monkeypatch.setattr(served.parley.db, "batch", away)
    status, headers, [said] = await call(served, script(tokens=3, rate=0), stream=False)
    assert (status, said["error"]["code"], headers["retry-after"]) == (503, "storage_unavailable", "5")
    assert not {"x-should-retry", "x-parley-generation"} & set(headers)


async def test_a_call_of_which_nobody_knows_whether_it_began_is_not_made_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OutcomeUnknown("the connection to the database was lost")

    monkeypatch.setattr(hold, "PATIENCE_S", 0.1)
    monkeypatch.setattr(served.parley.db, "batch", lost)
    status, headers, [said] = await call(served, script(tokens=3, rate=0), stream=False)
    assert (status, said["error"]["code"], headers["x-should-retry"]) == (503, "storage_unknown", "false")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 5])
async def test_an_engine_that_refuses_the_request_is_its_callers_mistake_only_before_the_first_token(
    served: Served, stream: bool, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind that it was charged, and is the engine's."""
    client = served.parley.client
    streaming = client.stream

    async def refusing(request: Request) -> AsyncGenerator[Chunk, None]:
        come = 0
        if tokens:
            async with aclosing(streaming(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
                    if (come := come + chunk.tokens) >= tokens:
                        break
        raise BadRequest("no such sampling")

    monkeypatch.setattr(client, "stream", refusing)
    status, headers, said = await call(served, script(tokens=30, rate=100), stream=stream)
    [(generation, end)] = (await rows(served)).items()
    assert end == "failed"
    assert headers["x-parley-generation"] == generation
    view = await served.parley.generations.view(served.who, generation)
    month = await served.parley.ledger.allowance(served.who.user_id, None)
    assert "no such sampling" in said[-1]["error"]["message"]
    if tokens:
        assert said[-1]["error"]["code"] == "generation_failed"
        assert view.completion_tokens >= tokens
        assert (month.used, month.held) == (view.prompt_tokens + view.completion_tokens, 0)
        assert stream or (status, headers["x-should-retry"]) == (503, "false")
    else:
        assert said[-1]["error"]["code"] == "bad_input"
        assert (month.used, month.held) == (0, 0)
        assert stream or (status, "x-should-retry" in headers) == (400, False)
