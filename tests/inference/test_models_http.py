"""Loading and unloading over HTTP: who may, what is told meanwhile, what is said when it fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from inference.catalog import Model
from inference.client import InferenceClient
from inference.engines.base import Engine
from inference.engines.scripted import ScriptedEngine
from inference.models import Models
from inference.protocol import Damaged, EngineError
from inference.server import application
from tests.inference.conftest import Serve, collect, request, script

ADMIN = {"Authorization": "Bearer admin"}
USER = {"Authorization": "Bearer user"}


async def engine(model: Model, tell: Callable[[float], None]) -> Engine:
    if model.id == "broken":
        raise Damaged("the file of broken is damaged")
    tell(0.5)
    return ScriptedEngine(model.id)


def models() -> Models:
    return Models([Model(id, engine="scripted", price_class="small") for id in ("a", "b", "broken")], engine)


@pytest.fixture
async def url(serve: Serve) -> AsyncIterator[str]:
    hosts = models()
    await hosts.start()
    yield await serve(application(hosts, "user", "admin"))
    await hosts.close()


async def post(url: str, headers: dict[str, str], **body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json=body) as answer:
        return answer.status, await answer.json()


async def test_only_an_administrator_loads_and_unloads(url: str, serve: Serve) -> None:
    for path in ("/models/load", "/models/unload"):
        assert (await post(url + path, {}, model="b"))[0] == 401
        status, answer = await post(url + path, USER, model="b")
        assert (status, answer["error"]["code"]) == (403, "admin_only")
    assert await post(f"{url}/models/load", ADMIN, model="b") == (200, {"model": "b", "state": "ready"})
    assert await post(f"{url}/models/unload", ADMIN, model="b") == (200, {"model": "b", "state": "off"})
    open_to_all = await serve(application(models()))
    status, answer = await post(f"{open_to_all}/models/load", {}, model="b")
    assert (status, "--admin-key-file" in answer["error"]["message"]) == (403, True)


async def test_every_model_is_listed_with_its_state(url: str) -> None:
    client = InferenceClient(url, "user")
    assert [(card.id, card.state, card.ready) for card in await client.models()] == [
        ("a", "ready", True),
        ("b", "unloaded", True),
        ("broken", "unloaded", True),
    ]
    assert {card.price_class for card in await client.models()} == {"small"}
    await collect(client, request(script(tokens=2), "b"))
    with pytest.raises(EngineError, match="the file of broken is damaged"):
        await collect(client, request("x", "broken"))
    assert [card.state for card in await client.models()] == ["ready", "ready", "failed"]
    assert not (await client.models())[2].ready
    await post(f"{url}/models/unload", ADMIN, model="b")
    assert [card.id for card in await client.models()] == ["a", "broken"]
    await client.close()


async def test_the_progress_is_shown_while_it_loads(url: str) -> None:
    async with aiohttp.ClientSession(headers=ADMIN) as http:
        body = {"model": "b", "stream": True, "switch": True}
        text = await (await http.post(f"{url}/models/load", json=body)).text()
        events = [orjson.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
        assert {event["model"] for event in events} == {"b"}
        assert events[-1] == {"model": "b", "state": "ready"}
        states = {one["model"]: one["state"] for one in (await (await http.get(f"{url}/status")).json())["models"]}
        assert states == {"a": "unloaded", "b": "ready", "broken": "unloaded"}
        text = await (await http.post(f"{url}/models/load", json={"model": "broken", "stream": True})).text()
    assert "the file of broken is damaged" in text


async def test_an_unloading_goes_on_though_whoever_asked_has_left(url: str) -> None:
    client = InferenceClient(url, "user")
    answer = client.stream(request(script(tokens=40, rate=40), "a"))
    await anext(answer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await post(f"{url}/models/unload", ADMIN, model="a")
    assert (await client.models())[0].state == "draining"
    assert [chunk async for chunk in answer][-1].finish
    async with asyncio.timeout(5):
        while (await client.models())[0].id == "a":
            await asyncio.sleep(0.01)
    assert await post(f"{url}/models/load", ADMIN, model="a") == (200, {"model": "a", "state": "ready"})
    await collect(client, request(script(tokens=2), "a"))
    await client.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/models/load", {}, 400, "model"),
        ("/models/load", {"model": "z"}, 404, "no model 'z'"),
        ("/models/load", {"model": "broken"}, 500, "damaged"),
        ("/models/unload", {"model": "a", "drain_s": -1}, 400, "drain_s"),
        ("/models/unload", {"model": "z"}, 404, "no model 'z'"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    url: str, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    got, answer = await post(url + path, ADMIN, **body)
    assert got == status
    assert says in answer["error"]["message"]
