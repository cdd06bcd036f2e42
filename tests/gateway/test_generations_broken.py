"""An answer that fails, or whose text is lost: what a program that waits or follows is told."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import replace
from typing import Any

import openai
import pytest
import redis.asyncio

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.log.entries import Entry
from chat_app.gateway import completions
from chat_app.sessions.viewer import Gone, Update
from tests.gateway.generations import SLOW, STEADY, asked, begin, raw_events
from tests.gateway.served import Served
from tests.parley import expected, script


async def test_an_engine_that_does_not_come_back_is_an_error_in_both_ways(served: Served) -> None:
    served.parley.engine._patience = 0.2
    question = script(refuse="died")
    with pytest.raises(openai.APIError) as streamed:
        async for _ in await served.client().chat.completions.create(**asked(question), stream=True):
            pass
    assert "/v1/generations/" in streamed.value.message
    with pytest.raises(openai.InternalServerError) as whole:
        await served.client().chat.completions.create(**asked(question))
    assert whole.value.code == "generation_failed"


async def test_a_request_that_the_engine_refuses_is_the_programs_own_mistake_in_both_ways(served: Served) -> None:
    for refuse, code, words in (
        ("bad", "bad_input", "the script says: bad request"),
        ("context", "context_length_exceeded", "too long for the model"),
    ):
        question = script(refuse=refuse)
        with pytest.raises(openai.BadRequestError, match=words) as whole:
            await served.client().chat.completions.create(**asked(question))
        assert (whole.value.code, whole.value.type) == (code, "invalid_request_error")
        with pytest.raises(openai.APIError, match=words) as streamed:
            async for _ in await served.client().chat.completions.create(**asked(question), stream=True):
                pass
        assert streamed.value.code == code
    month = await served.parley.ledger.allowance(served.who.user_id, None)
    assert (month.used, month.held) == (0, 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "tokens"),
    [
        ("failed", "bad_input", 5),
        ("failed", "context_too_long", 1),
        ("failed", "engine_unavailable", 0),
        ("failed", "too_many_calls", 0),
        ("streaming", "", 0),
    ],
)
async def test_an_answer_that_fails_later_is_not_the_programs_own_mistake(
    served: Served, stream: bool, status: str, code: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = type(served.parley.generations).view

    async def failed(*args: Any) -> Any:
        seen = await view(*args)
        receipt = {**seen.receipt, "code": code}
        return replace(seen, status=status, error="It broke.", receipt=receipt, completion_tokens=tokens)

    monkeypatch.setattr(type(served.parley.generations), "view", failed)
    monkeypatch.setattr(completions, "ending", lambda *_: None)  # its seals do not say how it ended: its row does
    call = served.client().chat.completions.create(**asked(script(tokens=5, rate=0)), stream=stream)
    with pytest.raises(openai.APIError, match=r"It broke\. What there is of the answer") as error:
        async for _ in await call:
            pass
    assert (error.value.code, error.value.type) == ("generation_failed", "server_error")
    if isinstance(error.value, openai.APIStatusError):
        assert error.value.status_code == 503
        # It was charged: whether to pay again is the program's to decide, not its client's.
        once = tokens or code == "too_many_calls"
        assert error.value.response.headers.get("x-should-retry") == ("false" if once else None)


async def forget(served: Served, generation: str) -> None:
    """What an hour does to a call: its log is not there any more."""
    settings = served.parley.settings
    if address := settings.redis_url.get_secret_value():
        async with redis.asyncio.from_url(address) as server:
            await server.flushdb()
        return
    with closing(sqlite3.connect(settings.home / "log.db")) as log, log:
        for table, column in (("piece", "generation"), ("generation", "id")):
            assert log.execute(f"DELETE FROM {table} WHERE {column} = ?", (generation,)).rowcount


async def test_what_is_gone_is_said_and_the_rest_kept(served_anywhere: Served) -> None:
    answer = await served_anywhere.client().chat.completions.create(**asked(STEADY))
    generation = answer.id.removeprefix("chatcmpl-")
    length = len(expected(STEADY))
    await forget(served_anywhere, generation)
    url = f"{served_anywhere.url}/v1/generations/{generation}"
    async with served_anywhere.http.get(url, headers=served_anywhere.bearer) as response:
        assert response.status == 200
        body = await response.json()
    assert (body["text"], body["entries"], body["gone"], body["log_length"]) == (None, None, True, length)
    assert (body["status"], body["usage"]["completion_tokens"]) == ("done", 120)
    async with served_anywhere.http.get(f"{url}/events?offset=5", headers=served_anywhere.bearer) as response:
        assert (response.status, response.content_type) == (410, "application/json")
        error = (await response.json())["error"]
    assert (error["code"], error["type"]) == ("text_gone", "invalid_request_error")
    assert error["message"] == f"The text of this answer is not kept any more; its log had {length:,} characters."


async def test_what_goes_while_it_is_followed_is_the_last_event(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream, generation, _ = await begin(served, SLOW)

    async def gone(*_: object, **__: object) -> AsyncGenerator[Update, None]:
        yield Update(0, (Entry("text", "ab"),), 2)
        raise Gone(1_234)

    monkeypatch.setattr(type(served.parley.viewer), "follow", gone)
    *_, (name, place, data) = await raw_events(served, f"/v1/generations/{generation}/events")
    assert (name, place, data["error"]["code"]) == ("error", None, "text_gone")
    assert "1,234" in data["error"]["message"]
    await stream.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_whose_text_is_lost_is_an_error_and_never_an_empty_answer(
    served: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object, **__: object) -> AsyncGenerator[Update, None]:
        yield Update(0, (), 0)
        raise Gone(7)

    monkeypatch.setattr(type(served.parley.viewer), "follow", gone)
    with pytest.raises(openai.APIError) as error:
        answer = await served.client().chat.completions.create(**asked(script(tokens=2, rate=0)), stream=stream)
        async for _ in answer:
            raise AssertionError("there is nothing to show")
    assert error.value.code == "text_gone"


async def test_a_lost_database_ends_a_follower_with_an_error(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await served.client().chat.completions.create(**asked(script(tokens=2, rate=0)))
    view, asked_for = type(served.parley.generations).view, []

    async def once(*args: Any) -> Any:
        asked_for.append(args)
        if len(asked_for) > 1:
            raise DatabaseUnavailable("database is locked")
        return await view(*args)

    monkeypatch.setattr(type(served.parley.generations), "view", once)
    *_, (name, _, data) = await raw_events(served, f"/v1/generations/{answer.id}/events")
    assert (name, data["error"]["code"]) == ("error", "storage_unavailable")
