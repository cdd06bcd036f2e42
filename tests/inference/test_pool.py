"""The pool over services in this process and strangers: who is asked, and what happens to an answer."""

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from inference.continuation import SteadyClient
from inference.engines.scripted import scripted_text
from inference.pool import Pool
from inference.protocol import BadRequest, EngineDied, Message, ModelCard, ModelNotFound, Overloaded, QueuePosition
from inference.wire import completion_body
from tests.inference.conftest import (
    KEY,
    SMOLLM,
    Foreign,
    Live,
    MakePool,
    StartServer,
    StartService,
    request,
    script,
    text_of,
    until,
)
from tests.inference.pools import answer, homed_at, of
from tests.inference.stranger import Stranger


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


async def test_when_all_refuse_the_shortest_wait_is_reported(make_pool: MakePool, start_server: StartServer) -> None:
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


async def test_without_a_thread_the_least_loaded_is_asked(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service(slots=8))[1] for _ in range(3)])
    running = [asyncio.create_task(answer(made, request(script(tokens=40, rate=40)))) for _ in range(9)]
    await until(lambda: sum(one.in_flight for one in made.replicas) == 9)
    assert [one.in_flight for one in made.replicas] == [3, 3, 3]
    await asyncio.gather(*running)


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
    thinking = of(homed_at(made, foreign), script(tokens=9, reasoning="Hm. So."))
    assert text_of(await answer(made, replace(thinking, continue_reasoning="Hm."))) == whole
    assert [one.continuations for one in made.replicas] == [0, 2]
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


async def test_who_waits_is_found_wherever_it_waits(make_pool: MakePool, start_service: StartService) -> None:
    made = make_pool(*[(await start_service(slots=1))[1] for _ in range(2)])
    asked = [replace(request(script(tokens=40, rate=40)), request_id=f"r{number}") for number in range(4)]
    running = [asyncio.create_task(answer(made, one)) for one in asked]
    await until(lambda: sum(one.in_flight for one in made.replicas) == 4)
    await asyncio.sleep(0.1)
    positions = await made.queue_positions()
    assert len(positions) == 2
    assert {at.position for at in positions.values()} == {1}
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
    assert await made.queue_positions() == {}


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


@pytest.mark.parametrize(
    ("replicas", "asked"),
    [
        (["ready", "loading"], ["ready"]),
        (["loading", "loading"], ["loading", "loading"]),
        (["broken", "ready", "loading"], ["ready"]),
        (["broken", "loading"], ["broken"]),
        (["gone", "without", "ready"], ["ready"]),
    ],
)
def test_who_can_be_asked_now(replicas: list[str], asked: list[str]) -> None:
    """Whoever has the model in memory before who has yet to load it; an open breaker before nobody."""

    def replica(state: str) -> Any:
        card = None if state == "without" else ModelCard("m", 1, ready=state in ("ready", "broken"))
        return SimpleNamespace(
            name=state,
            healthy=state != "gone",
            card=lambda model: card,
            breaker=SimpleNamespace(admits=state != "broken"),
        )

    pool = Pool(["http://a"], ["k"])
    pool.replicas = [replica(state) for state in replicas]
    assert [one.name for one in pool._able("m")] == asked


async def test_only_who_works_for_us_and_can_say_is_asked_who_waits() -> None:
    asked: list[str] = []

    def replica(name: str, healthy: bool = True, in_flight: int = 1, tells_load: bool = True) -> Any:
        async def positions() -> dict[str, QueuePosition]:
            asked.append(name)
            return {name: QueuePosition(1, 2.0)}

        return SimpleNamespace(
            healthy=healthy,
            in_flight=in_flight,
            tells_load=tells_load,
            client=SimpleNamespace(queue_positions=positions),
        )

    pool = Pool(["http://a"], ["k"])
    pool.replicas = [
        replica("busy"),
        replica("gone", healthy=False),
        replica("idle", in_flight=0),
        replica("stranger", tells_load=False),
        replica("busy too", in_flight=2),
    ]
    assert list(await pool.queue_positions()) == asked == ["busy", "busy too"]
