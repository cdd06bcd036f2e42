"""An answer as a durable job: a program that hangs up, comes back elsewhere, looks on, or stops it."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.served import Served, served_by, serving
from tests.parley import StartParley, expected, fleet_settings, person, script

SLOW = script(tokens=2_000, rate=50, seed=5)
STEADY = script(tokens=120, rate=100, seed=6)


def asked(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": question}], **fields}


async def begin(served: Served, question: str, **headers: str) -> tuple[AsyncOpenAI, Any, str, str]:
    """A stream of which some text has been read: its client, itself, the generation and the text."""
    client = served.client()
    stream = await client.chat.completions.create(**asked(question), stream=True, extra_headers=headers)
    text, generation = "", ""
    async for chunk in stream:
        generation = chunk.id.removeprefix("chatcmpl-")
        text += chunk.choices[0].delta.content or ""
        if len(text) > 20:
            break
    return client, stream, generation, text


async def raw_events(served: Served, path: str, **headers: str) -> list[tuple[str, int | None, dict[str, Any]]]:
    """Name, id and data of each event of a stream."""
    async with served.http.get(served.url + path, headers={**served.bearer, **headers}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        stream = (await response.read()).decode()
    found = []
    for event in stream.removesuffix("\n\n").split("\n\n"):
        fields = dict(field.split(": ", 1) for field in event.split("\n"))
        place = int(fields["id"]) if "id" in fields else None
        found.append((fields.get("event", ""), place, json.loads(fields["data"])))
    return found


async def events(served: Served, path: str, **headers: str) -> tuple[str, list[int], dict[str, Any]]:
    """The text, the ids of its events and the final state of an event stream of a plain answer."""
    *found, (last, _, ended) = await raw_events(served, path, **headers)
    assert last == "end"
    assert [name for name, _, _ in found if name] == (["sealed"] if found else [])
    said = [(place, data["text"]) for name, place, data in found if not name]
    return "".join(text for _, text in said), [place for place, _ in said if place is not None], ended


async def test_a_program_that_hangs_up_stops_its_answer(served_anywhere: Served) -> None:
    _, stream, generation, text = await begin(served_anywhere, SLOW)
    await stream.close()
    assert await served_anywhere.settled(generation) == "stopped"
    view = await served_anywhere.parley.generations.view(served_anywhere.who, generation)
    month = await served_anywhere.parley.ledger.allowance(served_anywhere.who.user_id, None)
    assert 0 < view.completion_tokens < 500
    assert (month.used, month.held) == (view.prompt_tokens + view.completion_tokens, 0)
    whole, _, last = await events(served_anywhere, f"/v1/generations/{generation}/events")
    assert expected(SLOW).startswith(whole) and whole.startswith(text)
    assert last["status"] == "stopped"


async def test_an_unstreamed_call_that_hangs_up_stops_too(served: Served) -> None:
    url = f"{served.url}/v1/chat/completions"
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5), served.http.post(url, json=asked(SLOW), headers=served.bearer):
            raise AssertionError("it cannot have ended")
    [row] = await served.parley.db.query("SELECT id FROM generation")
    assert await served.settled(row["id"]) == "stopped"


async def test_a_detached_answer_goes_on(served_anywhere: Served) -> None:
    _, stream, generation, _ = await begin(served_anywhere, STEADY, **{"X-Parley-Detach": "true"})
    await stream.close()
    assert await served_anywhere.settled(generation) == "done"
    path = f"/v1/generations/chatcmpl-{generation}"
    async with served_anywhere.http.get(served_anywhere.url + path, headers=served_anywhere.bearer) as response:
        body = await response.json()
    assert (body["id"], body["status"], body["text"]) == (generation, "done", expected(STEADY))
    assert body["usage"]["completion_tokens"] == 120
    assert body["receipt"]["finish"] == "stop"


async def test_the_rest_follows_from_any_offset_exactly_once(served_anywhere: Served) -> None:
    _, stream, generation, text = await begin(served_anywhere, STEADY, **{"X-Parley-Detach": "true"})
    await stream.close()
    path = f"/v1/generations/{generation}/events"
    rest, ids, last = await events(served_anywhere, f"{path}?offset={len(text)}")
    assert text + rest == expected(STEADY)
    assert ids == sorted(set(ids)) and ids[-1] == len(expected(STEADY))
    assert (last["status"], last["usage"]["completion_tokens"]) == ("done", 120)
    middle = ids[len(ids) // 2]
    again, _, _ = await events(served_anywhere, f"{path}?offset=0", **{"Last-Event-ID": str(middle)})
    assert again == expected(STEADY)[middle:]
    nothing, _, last = await events(served_anywhere, f"{path}?offset={len(expected(STEADY))}")
    assert (nothing, last["status"]) == ("", "done")
    beyond, _, _ = await events(served_anywhere, f"{path}?offset=999999")
    assert beyond == ""


async def test_looking_on_and_going_away_stops_nothing(served: Served) -> None:
    _, stream, generation, _ = await begin(served, STEADY)
    url = f"{served.url}/v1/generations/{generation}/events"
    async with served.http.get(url, headers=served.bearer) as response:
        await response.content.readany()
    rest = [chunk async for chunk in stream]
    assert rest[-1].choices[0].finish_reason == "stop"
    assert await served.settled(generation) == "done"


async def test_stopping_by_request(served: Served) -> None:
    _, stream, generation, text = await begin(served, SLOW)
    url = f"{served.url}/v1/generations/{generation}/stop"
    async with served.http.post(url, headers=served.bearer) as response:
        assert response.status == 202
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    assert chunk.choices[0].finish_reason == "stop"
    assert await served.settled(generation) == "stopped"
    assert expected(SLOW).startswith(text)
    async with served.http.post(url, headers=served.bearer) as response:
        assert response.status == 202


async def test_nobody_sees_or_stops_anothers_answer(served: Served) -> None:
    _, stream, generation, _ = await begin(served, SLOW)
    eve = await person(served.parley, "eve@example.org")
    key = await served.parley.accounts.make_key(eve.user_id, "")
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/stop")):
        url = f"{served.url}/v1/generations/{generation}{path}"
        async with served.http.request(method, url, headers={"Authorization": f"Bearer {key}"}) as response:
            assert response.status == 404, path
            assert (await response.json())["error"]["code"] == "not_found"
        async with served.http.request(method, url) as response:
            assert response.status == 401, path
    view = await served.parley.generations.view(served.who, generation)
    assert not view.ended
    await stream.close()


@pytest.mark.parametrize("made_up", ["0" * 32, "nonsense", "%00", "a" * 500, "..%2f..%2fetc"])
async def test_an_unknown_generation_is_said(served: Served, made_up: str) -> None:
    async with served.http.get(f"{served.url}/v1/generations/{made_up}", headers=served.bearer) as response:
        assert response.status == 404
        assert (await response.json())["error"]["message"]


@pytest.mark.parametrize("offset", ["-1", "x", "1e3", "٣", "9" * 20])
async def test_an_offset_is_a_number(served: Served, offset: str) -> None:
    answer = await served.client().chat.completions.create(**asked(script(tokens=2, rate=0)))
    url = f"{served.url}/v1/generations/{answer.id}/events"
    async with served.http.get(url, params={"offset": offset}, headers=served.bearer) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "offset"


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


async def test_a_hundred_connections_that_break_leave_nothing_behind(served: Served) -> None:
    await served.parley.plans.save("wide", "Wide", None, 10_000, 500)
    await served.parley.accounts.set_plan(served.who.user_id, "wide")

    async def hang_up() -> None:
        url = f"{served.url}/v1/chat/completions"
        async with served.http.post(url, json=asked(SLOW, stream=True), headers=served.bearer) as response:
            await response.content.readany()
            response.close()

    before = len(asyncio.all_tasks())
    for _ in range(10):
        await asyncio.gather(*(hang_up() for _ in range(10)), return_exceptions=True)
    for _ in range(250):
        if served.parley.ownership.running == 0 and len(asyncio.all_tasks()) <= before + 5:
            break
        await asyncio.sleep(0.02)
    assert served.parley.ownership.running == 0
    assert len(asyncio.all_tasks()) <= before + 5
    assert (await served.parley.ledger.allowance(served.who.user_id, None)).held == 0


async def test_any_replica_gives_the_rest_and_stops(
    start_parley: StartParley, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = fleet_settings(request)
    async with (
        served_by(await start_parley(**settings)) as one,
        serving(await start_parley(home=tmp_path / "two", **settings)) as two,
    ):
        elsewhere = replace(one, url=two)
        _, stream, generation, text = await begin(one, STEADY, **{"X-Parley-Detach": "true"})
        rest, _, last = await events(elsewhere, f"/v1/generations/{generation}/events?offset={len(text)}")
        assert text + rest == expected(STEADY)
        assert last["status"] == "done"
        await stream.close()
        _, stream, generation, _ = await begin(one, SLOW)
        async with one.http.post(f"{two}/v1/generations/{generation}/stop", headers=one.bearer) as response:
            assert response.status == 202
        assert await one.settled(generation) == "stopped"
        await stream.close()
