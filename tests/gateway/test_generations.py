"""An answer as a durable job: a program that hangs up, comes back elsewhere, looks on, or stops it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.generations import SLOW, STEADY, asked, begin, events, raw_events
from tests.gateway.served import Served, served_by, serving
from tests.parley import StartParley, answer, expected, fleet_settings, person, script


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
    async with served_anywhere.http.get(
        f"{served_anywhere.url}{path}?offset=999999", headers=served_anywhere.bearer
    ) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["code"], error["param"]) == ("bad_input", "offset")
    assert error["message"].startswith("offset: is behind the end of this answer")


async def test_an_offset_that_cannot_be_is_said_to_a_follower_of_a_running_answer(served: Served) -> None:
    question = script(reasoning="Hm, well.", tokens=200, rate=100, seed=7)
    _, stream, generation, _ = await begin(served, question)
    for offset, words in (("3", "inside an entry"), ("99999", "behind the end")):
        [(name, place, data)] = await raw_events(
            served, f"/v1/generations/{generation}/events", **{"Last-Event-ID": offset}
        )
        assert (name, place, data["error"]["code"], data["error"]["param"]) == ("error", None, "bad_input", "offset")
        assert words in data["error"]["message"]
    await stream.close()


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


async def test_an_answer_of_a_deleted_thread_is_not_found(served_anywhere: Served) -> None:
    served, parley = served_anywhere, served_anywhere.parley
    ended = await parley.turns.say(served.who, script(text="between us"))
    assert await answer(parley, ended.generation_id) == ("between us", "done")
    running = await parley.turns.say(served.who, SLOW)
    for started in (ended, running):
        async with served.http.get(f"{served.url}/v1/generations/{started.generation_id}", headers=served.bearer) as ok:
            assert ok.status == 200
        await parley.turns.delete(served.who, str(started.thread_id))
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/stop")):
            url = f"{served.url}/v1/generations/{started.generation_id}{path}"
            async with served.http.request(method, url, headers=served.bearer) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found"), path
    assert (await answer(parley, running.generation_id))[1] == "stopped"
    month = await parley.ledger.allowance(served.who.user_id, None)
    assert month.held == 0 and month.used > 0


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


async def test_a_follower_that_sends_more_than_an_address_takes_is_let_go(served: Served) -> None:
    _, stream, generation, _ = await begin(served, SLOW, **{"X-Parley-Detach": "true"})
    await stream.close()

    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    url = f"{served.url}/v1/generations/{generation}/events"
    async with asyncio.timeout(10):
        with suppress(aiohttp.ClientError):
            async with served.http.get(url, data=endless(), headers=served.bearer) as response:
                await response.read()
    view = await served.parley.generations.view(served.who, generation)
    assert not view.ended, "it was let go before the answer had ended, and did not stop it"
    await served.parley.turns.stop(served.who, generation)
    assert await served.settled(generation) == "stopped"


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


# What is not kept any more -------------------------------------------------------------------------------------------
