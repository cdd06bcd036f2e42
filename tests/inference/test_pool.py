"""The pool over services in this process and strangers: who is asked, who is spared, and what happens to an answer."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from inference import breaker, pool, replica
from inference.catalog import Model
from inference.continuation import SteadyClient
from inference.engines.base import Engine
from inference.engines.scripted import ScriptedEngine, scripted_text
from inference.models import Models
from inference.pool import Pool
from inference.protocol import BadRequest, Chunk, EngineDied, Message, ModelNotFound, Overloaded, Request
from inference.server import application
from inference.wire import completion_body
from tests.inference.conftest import (
    KEY,
    SMOLLM,
    Foreign,
    Live,
    Serve,
    StartServer,
    StartService,
    request,
    script,
    text_of,
)
from tests.inference.stranger import Stranger

MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    async with AsyncExitStack() as stack:

        def make(*urls: str) -> Pool:
            made = Pool(urls)
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and pauses that a test can wait for."""
    monkeypatch.setattr(pool, "LOOK_S", 0.1)
    monkeypatch.setattr(pool, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(replica, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(replica, "REST_S", 0.0)
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.4)


async def answer(client: Pool | SteadyClient, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in client.stream(asked)]


def of(thread: str, question: str = "hello", **options: object) -> Request:
    return replace(request(question, **options), affinity=thread)


def homed_at(made: Pool, url: str) -> str:
    """A thread whose first choice is the replica at this address."""
    names = (f"thread-{number}" for number in range(1_000))
    return next(name for name in names if max(made.replicas, key=lambda one: one.rank(name)).url == url)


async def until(true: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_stream_that_lost_its_replica_goes_on_elsewhere(
    make_pool: MakePool, start_service: StartService
) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(2)])
    began = time.monotonic()
    chunks = await answer(SteadyClient(made), of("t", script(tokens=90, seed=4, drop_at=37), max_tokens=200))
    assert text_of(chunks) == scripted_text({"tokens": 90, "seed": 4})
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 90
    assert time.monotonic() - began < 1
    first, second = sorted(made.replicas, key=lambda one: one.failures, reverse=True)
    assert (first.requests, first.failures, first.continuations) == (1, 1, 0)
    assert (second.requests, second.failures, second.continuations) == (1, 0, 1)


@pytest.mark.parametrize("mood", ["refuses", "dies"])
async def test_what_did_not_begin_is_asked_elsewhere(
    make_pool: MakePool, start_service: StartService, start_server: StartServer, mood: str
) -> None:
    stranger = Stranger(mood)
    bad, good = await start_server(stranger.serve), (await start_service())[1]
    made = make_pool(bad, good)
    assert await made.health()
    chunks = await answer(made, of(homed_at(made, bad), script(tokens=5)))
    assert text_of(chunks) == scripted_text({"tokens": 5})
    assert stranger.asked >= 1
    assert made.replicas[1].retries == 1


async def test_when_all_refuse_the_shortest_wait_is_told(make_pool: MakePool, start_server: StartServer) -> None:
    strangers = [Stranger("refuses", retry_after=seconds) for seconds in (9, 4, 7)]
    made = make_pool(*[await start_server(stranger.serve) for stranger in strangers])
    with pytest.raises(Overloaded) as refused:
        await answer(made, request("hello"))
    assert refused.value.retry_after == 4
    assert [stranger.asked for stranger in strangers] == [1, 1, 1]


async def test_a_refusal_is_not_asked_about_again_before_its_time(
    make_pool: MakePool, start_server: StartServer
) -> None:
    stranger = Stranger("refuses", retry_after=1)
    made = make_pool(await start_server(stranger.serve))
    waiting = asyncio.create_task(answer(SteadyClient(made), request("hello")))
    await until(lambda: stranger.asked)
    stranger.mood = "answers"
    began = time.monotonic()
    assert text_of(await waiting) == "stranger"
    assert 0.8 < time.monotonic() - began < 2
    assert stranger.asked == 2


async def test_what_makes_no_sense_is_not_asked_twice(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(2)])
    with pytest.raises(BadRequest):
        await answer(made, request(script(refuse="bad")))
    assert sum(one.requests for one in made.replicas) == 1


async def test_a_thread_stays_with_its_replica(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(3)])
    homes = {}
    for thread in map(str, range(12)):
        before = [one.requests for one in made.replicas]
        for _ in range(3):
            await answer(made, of(thread, script(tokens=2)))
        grown = [one.requests - was for one, was in zip(made.replicas, before, strict=True)]
        assert sorted(grown) == [0, 0, 3]
        homes[thread] = grown.index(3)
    assert len(Counter(homes.values())) > 1


async def test_a_saturated_replica_spills_over(make_pool: MakePool, start_service: StartService) -> None:
    urls = [(await start_service(slots=2))[1] for _ in range(2)]
    made = make_pool(*urls)
    assert await made.health()
    thread = homed_at(made, urls[0])
    running = [asyncio.create_task(answer(made, of(thread, script(tokens=40, rate=40)))) for _ in range(3)]
    await until(lambda: sum(one.in_flight for one in made.replicas) == 3)
    assert [one.in_flight for one in made.replicas] == [2, 1]
    await asyncio.gather(*running)
    await answer(made, of(thread, script(tokens=2)))
    assert [one.requests for one in made.replicas] == [3, 1]


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


async def test_without_a_thread_the_least_loaded_is_asked(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service(slots=8))[1] for _ in range(3)])
    running = [asyncio.create_task(answer(made, request(script(tokens=40, rate=40)))) for _ in range(9)]
    await until(lambda: sum(one.in_flight for one in made.replicas) == 9)
    assert [one.in_flight for one in made.replicas] == [3, 3, 3]
    await asyncio.gather(*running)


@pytest.mark.usefixtures("quick")
async def test_who_fails_again_and_again_is_spared_and_then_tried(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger("dies")
    bad = await start_server(stranger.serve)
    made = make_pool(bad, (await start_service())[1])
    assert await made.health()
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
    assert await made.health()
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
    assert await made.health()
    asked = of(homed_at(made, bad), script(tokens=60, seed=2), max_tokens=200)
    async with asyncio.timeout(3):
        assert text_of(await answer(SteadyClient(made), asked)) == whole
    assert stranger.asked == 1


@pytest.mark.usefixtures("quick")
async def test_who_is_slow_to_say_how_it_is_keeps_what_still_flows(
    make_pool: MakePool, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(2)])
    assert await made.health()
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


async def test_a_stranger_serves_among_ours(
    make_pool: MakePool, start_service: StartService, start_server: StartServer
) -> None:
    stranger = Stranger()
    foreign = await start_server(stranger.serve)
    made = make_pool(foreign, (await start_service())[1])
    assert await made.health()
    assert text_of(await answer(made, of(homed_at(made, foreign)))) == "stranger"
    assert await made.count("scripted", [Message("user", "hello")]) > 0
    assert await made.count("scripted", [Message("user", "hello")]) > 0
    whole = scripted_text({"tokens": 9})
    begun = replace(of(homed_at(made, foreign), script(tokens=9)), continue_from=whole[:20])
    assert whole[:20] + text_of(await answer(made, begun)) == whole  # It might begin anew.
    assert stranger.asked == 1


@pytest.mark.model
async def test_llama_cpps_own_server_serves_beside_ours(llama: Live, llama_server: Foreign) -> None:
    made = Pool([llama_server.url, llama.url], [llama_server.key, KEY])
    try:
        assert {(card.id, card.ready) for card in await made.models()} == {(SMOLLM, True)}
        assert [one.tells_load for one in made.replicas] == [False, True]
        for asked, one in enumerate(made.replicas):
            chunks = await answer(made, of(homed_at(made, one.url), "What is the capital of Japan?", model=SMOLLM))
            assert "Tokyo" in text_of(chunks)
            assert [replica.requests for replica in made.replicas] == [1, asked]
        assert await made.count(SMOLLM, [Message("user", "hello")]) > 0
    finally:
        await made.close()


async def test_who_is_leaving_gets_no_new_work_and_ends_the_old(
    make_pool: MakePool, start_service: StartService
) -> None:
    services = [await start_service() for _ in range(2)]
    made = make_pool(*[url for _, url in services])
    assert await made.health()
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
    await until(lambda: models.running)
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
    assert await made.health()
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
    assert await made.health()
    running = asyncio.create_task(answer(made, request(script(tokens=40, rate=40))))
    await until(lambda: made.replicas[1].in_flight)
    await answer(made, of(homed_at(made, full), script(tokens=2)))
    assert stranger.asked == 0
    await running


async def test_only_who_has_the_model_is_asked(make_pool: MakePool, start_service: StartService) -> None:
    small, large = [(await start_service(model=name, context=size))[1] for name, size in (("s", 512), ("l", 4_096))]
    both, loading = (await start_service(model="s", context=256))[1], (await start_service(model="s", load=False))[1]
    made = make_pool(small, large, both, loading)
    for number in range(8):
        await answer(made, replace(of(str(number), script(tokens=2)), model="l"))
    assert [one.requests for one in made.replicas] == [0, 8, 0, 0]
    for number in range(8):
        await answer(made, replace(of(str(number), script(tokens=2)), model="s"))
    assert made.replicas[3].requests == 0
    assert {card.id: (card.context, card.ready) for card in await made.models()} == {
        "s": (256, True),
        "l": (4_096, True),
    }
    with pytest.raises(ModelNotFound, match="'xl'"):
        await answer(made, replace(request("hello"), model="xl"))


async def test_a_model_whose_only_replica_is_gone_is_waited_for(
    make_pool: MakePool, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [await start_service(model=name) for name in ("s", "l")]
    made = make_pool(*[url for _, url in services])
    assert await made.health()
    monkeypatch.setattr(services[1][0], "healthy", AsyncMock(return_value=False))
    await until(lambda: not made.replicas[1].healthy)
    with pytest.raises(EngineDied, match="'l'"):
        await answer(made, replace(request("hello"), model="l"))
    assert {card.id: card.ready for card in await made.models()} == {"s": True, "l": False}


async def test_who_waits_is_found_wherever_it_waits(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service(slots=1))[1] for _ in range(2)])
    asked = [replace(request(script(tokens=40, rate=40)), request_id=f"r{number}") for number in range(4)]
    running = [asyncio.create_task(answer(made, one)) for one in asked]
    await until(lambda: sum(one.in_flight for one in made.replicas) == 4)
    await asyncio.sleep(0.1)
    standings = await made.standings()
    assert len(standings) == 2
    assert {at.position for at in standings.values()} == {1}
    await asyncio.gather(*running)


async def test_when_nobody_answers_it_says_who_and_why(make_pool: MakePool) -> None:
    made = make_pool("http://127.0.0.1:9", "http://127.0.0.1:1")
    steady = SteadyClient(made, patience=0.5)
    began = time.monotonic()
    with pytest.raises(EngineDied, match=r"127\.0\.0\.1:9: .*127\.0\.0\.1:1: "):
        await answer(steady, request("hello"))
    assert 0.5 <= time.monotonic() - began < 2
    with pytest.raises(EngineDied):
        await made.models()
    with pytest.raises(EngineDied):
        await made.count("scripted", [Message("user", "hello")])
    assert not await made.health()
    assert await made.standings() == {}


async def test_leaving_in_mid_answer_frees_the_replica(make_pool: MakePool, start_service: StartService) -> None:
    service, url = await start_service()
    made = make_pool(url)
    async with aclosing(made.stream(request(script(tokens=400, rate=40)))) as chunks:
        await anext(chunks)
        assert made.replicas[0].in_flight == 1
    assert made.replicas[0].in_flight == 0
    await until(lambda: service.status()["cancelled"] == 1)
    assert made.replicas[0].breaker.state == "closed"


async def test_closing_ends_what_runs(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service())[1] for _ in range(2)])
    running = asyncio.create_task(answer(made, request(script(tokens=9, prefill_s=30))))
    await until(lambda: any(one.in_flight for one in made.replicas))
    await asyncio.sleep(0.1)
    await made.close()
    with pytest.raises(EngineDied):
        await running


def test_the_thread_does_not_travel() -> None:
    assert completion_body(of("thread-7")) == completion_body(of(""))


def test_keys_are_one_for_all_or_one_each() -> None:
    with pytest.raises(ValueError, match="2 keys for 3 addresses"):
        Pool(["http://a", "http://b", "http://c"], ["k", "l"])
