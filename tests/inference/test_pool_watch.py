"""The pool looks at its replicas: who fails, hangs, leaves or is full is spared, and comes back."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from inference import breaker, pool, replica
from inference.catalog import Model
from inference.continuation import SteadyClient
from inference.engines.base import Engine
from inference.engines.scripted import ScriptedEngine, scripted_text
from inference.models import Models
from inference.protocol import EngineDied
from inference.server import application
from tests.inference.conftest import (
    MakePool,
    Serve,
    StartServer,
    StartService,
    request,
    script,
    text_of,
    until,
)
from tests.inference.pools import answer, homed_at, of
from tests.inference.stranger import Stranger


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and pauses that a test can wait for."""
    monkeypatch.setattr(pool, "LOOK_S", 0.1)
    monkeypatch.setattr(pool, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(replica, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(replica, "REST_S", 0.0)
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.4)


async def all_well(made: pool.Pool) -> None:
    """Every replica has been looked at and is well; a busy machine may take several looks for that."""
    async with asyncio.timeout(10):
        while not await made.health():
            await asyncio.sleep(0.05)


async def test_what_others_sent_there_counts(make_pool: MakePool, start_service: StartService) -> None:
    urls = [(await start_service(slots=2))[1] for _ in range(2)]
    others, mine = make_pool(urls[0]), make_pool(*urls)
    running = [asyncio.create_task(answer(others, request(script(tokens=60, rate=40)))) for _ in range(2)]
    await until(lambda: others.replicas[0].in_flight == 2)
    await asyncio.sleep(0.2)
    assert await mine.health()
    await answer(mine, of(homed_at(mine, urls[0]), script(tokens=2)))
    assert [one.requests for one in mine.replicas] == [0, 1]
    await asyncio.gather(*running)


@pytest.mark.usefixtures("quick")
async def test_who_fails_again_and_again_is_spared_and_then_tried(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger("dies")
    bad = await start_server(stranger.serve)
    made = make_pool(bad, (await start_service())[1])
    await all_well(made)
    thread = homed_at(made, bad)
    while made.replicas[0].breaker.state == "closed":
        await answer(made, of(thread, script(tokens=2)))
    assert made.replicas[0].breaker.state == "open"
    asked = stranger.asked
    for _ in range(5):
        await answer(made, of(thread, script(tokens=2)))
    assert stranger.asked == asked
    stranger.mood = "answers"
    await until(lambda: made.replicas[0].breaker.state == "half_open")
    assert text_of(await answer(made, of(thread, script(tokens=2)))) == "stranger"
    assert made.replicas[0].breaker.state == "closed"


@pytest.mark.usefixtures("quick")
async def test_an_answer_that_came_to_its_end_makes_up_for_failures(
    make_pool: MakePool, start_server: StartServer
) -> None:
    stranger = Stranger()
    made = make_pool(await start_server(stranger.serve))
    for mood in ("dies", "dies", "answers", "dies", "dies"):
        stranger.mood = mood
        with suppress(EngineDied):
            await answer(SteadyClient(made, patience=-1), request("hello"))
    assert made.replicas[0].failures == 4
    assert made.replicas[0].breaker.state == "closed"


@pytest.mark.usefixtures("quick")
async def test_who_hangs_is_found_by_looking(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger()
    bad = await start_server(stranger.serve)
    made = make_pool(bad, (await start_service())[1])
    await all_well(made)
    stranger.mood = "hangs"
    await until(lambda: not made.replicas[0].healthy)
    began = time.monotonic()
    await answer(made, of(homed_at(made, bad), script(tokens=2)))
    assert time.monotonic() - began < 0.5
    assert made.replicas[0].requests == 0
    stranger.mood = "answers"
    await until(lambda: made.replicas[0].healthy)


@pytest.mark.usefixtures("quick")
async def test_an_answer_is_taken_away_from_who_hangs(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    whole = scripted_text({"tokens": 60, "seed": 2})
    stranger = Stranger("falls silent", words=whole[:50])
    bad = await start_server(stranger.serve)
    made = make_pool(bad, (await start_service())[1])
    await all_well(made)
    asked = of(homed_at(made, bad), script(tokens=60, seed=2), max_tokens=200)
    async with asyncio.timeout(3):
        assert text_of(await answer(SteadyClient(made), asked)) == whole
    assert stranger.asked == 1


@pytest.mark.usefixtures("quick")
async def test_who_is_slow_to_say_how_it_is_keeps_what_still_flows(
    make_pool: MakePool, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(2)])
    await all_well(made)
    running = asyncio.create_task(answer(made, request(script(tokens=40, rate=40))))
    await until(lambda: any(one.in_flight for one in made.replicas))
    [busy] = [one for one in made.replicas if one.in_flight]

    async def never() -> list[object]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(busy.client, "models", never)
    await until(lambda: not busy.healthy)
    assert text_of(await running) == scripted_text({"tokens": 40})
    assert busy.failures == 0


async def test_who_is_leaving_gets_no_new_work_and_ends_the_old(
    make_pool: MakePool, start_service: StartService
) -> None:
    services = [await start_service() for _ in range(2)]
    made = make_pool(*[url for _, url in services])
    await all_well(made)
    thread = homed_at(made, services[0][1])
    running = asyncio.create_task(answer(made, of(thread, script(tokens=60, rate=40), max_tokens=60)))
    await until(lambda: made.replicas[0].in_flight)
    leaving = asyncio.create_task(services[0][0].unload(""))
    await until(lambda: not made.replicas[0].healthy)
    await answer(made, of(thread, script(tokens=2)))
    assert made.replicas[1].requests == 1
    assert text_of(await running) == scripted_text({"tokens": 60})
    await leaving
    assert made.replicas[0].failures == 0


@pytest.mark.usefixtures("quick")
async def test_a_replica_that_unloads_one_model_still_gets_work_for_its_others(
    make_pool: MakePool, serve: Serve
) -> None:
    async def engine(model: Model, tell: object) -> Engine:
        return ScriptedEngine(model.id)

    models = Models([Model(id, engine="scripted") for id in ("a", "b")], engine)
    await models.start()
    made = make_pool(await serve(application(models)))
    running = asyncio.create_task(answer(made, request(script(tokens=60, rate=60), "a", max_tokens=60)))
    await until(lambda: models.hosted("a").running)
    leaving = asyncio.create_task(models.unload("a"))
    await until(lambda: (card := made.replicas[0].card("a")) and card.state == "draining")
    assert text_of(await answer(made, request(script(tokens=2), "b"))) == scripted_text({"tokens": 2})
    assert not running.done()
    await running
    await leaving
    await models.close()


@pytest.mark.usefixtures("quick")
async def test_who_says_that_it_drains_gets_no_new_work(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger()
    stranger.status = {"state": "ready", "running": 0, "waiting": 0, "slots": 4}
    leaving = await start_server(stranger.serve)
    made = make_pool(leaving, (await start_service())[1])
    await all_well(made)
    thread = homed_at(made, leaving)
    await answer(made, of(thread, script(tokens=2)))
    stranger.status["state"] = "draining"
    await until(lambda: not made.replicas[0].healthy)
    await answer(made, of(thread, script(tokens=2)))
    assert (stranger.asked, made.replicas[1].requests) == (1, 1)


@pytest.mark.usefixtures("quick")
async def test_who_waits_for_others_is_spared_though_it_has_slots_left(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger()  # Its memory is full before its slots are.
    stranger.status = {"state": "ready", "running": 1, "waiting": 1, "slots": 64}
    full = await start_server(stranger.serve)
    made = make_pool(full, (await start_service(slots=2))[1])
    await all_well(made)
    running = asyncio.create_task(answer(made, request(script(tokens=40, rate=40))))
    await until(lambda: made.replicas[1].in_flight)
    await answer(made, of(homed_at(made, full), script(tokens=2)))
    assert stranger.asked == 0
    await running


async def test_a_model_whose_only_replica_is_gone_is_waited_for(
    make_pool: MakePool, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [await start_service(model=name) for name in ("s", "l")]
    made = make_pool(*[url for _, url in services])
    await all_well(made)
    monkeypatch.setattr(services[1][0], "healthy", AsyncMock(return_value=False))
    await until(lambda: not made.replicas[1].healthy)
    with pytest.raises(EngineDied, match="'l'"):
        await answer(made, replace(request("hello"), model="l"))
    assert {card.id: card.ready for card in await made.models()} == {"s": True, "l": False}
