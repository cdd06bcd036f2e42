"""A turn over several engines: who answers a thread, what the figures say, and which settings make sense."""

from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr, ValidationError

from chat_app.settings import Settings, wrong
from chat_app.telemetry.metrics import REGISTRY
from inference.client import InferenceClient
from inference.pool import Pool
from tests.parley import EngineProcess, StartParley, answer, expected, person, script


@pytest.fixture
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EngineProcess]]:
    made = [EngineProcess(tmp_path_factory.mktemp("engine")) for _ in range(2)]
    for engine in made:
        engine.start()
    yield made
    for engine in made:
        engine.kill()


async def test_a_thread_stays_with_one_engine_for_as_long_as_that_lives(
    start_parley: StartParley, engines: list[EngineProcess]
) -> None:
    parley = await start_parley(inference_url=",".join(engine.url for engine in engines))
    assert isinstance(parley.client, Pool)
    ada = await person(parley)
    thread = None
    for seed in range(3):
        question = script(tokens=5, seed=seed)
        started = await parley.turns.say(ada, question, thread_id=thread)
        assert await answer(parley, started.generation_id) == (expected(question), "done")
        thread = started.thread_id
    assert sorted(one.requests for one in parley.client.replicas) == [0, 3]
    home = max(range(2), key=lambda number: parley.client.replicas[number].requests)
    engines[home].kill()
    question = script(tokens=5, seed=9)
    started = await parley.turns.say(ada, question, thread_id=thread)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    exported = generate_latest(REGISTRY).decode()
    gone, other = parley.client.replicas[home].name, parley.client.replicas[1 - home].name
    assert f'parley_replica_up{{replica="{other}"}} 1.0' in exported
    assert f'parley_replica_requests_total{{replica="{other}"}} 1.0' in exported
    assert f'parley_replica_breaker{{replica="{gone}",state="closed"}} 1.0' in exported


async def test_one_address_needs_no_pool(start_parley: StartParley, scripted_engine: str) -> None:
    parley = await start_parley(inference_url=f" {scripted_engine}/v1/ ")
    assert type(parley.client) is InferenceClient
    assert [card.id for card in await parley.client.models()] == ["scripted"]


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("localhost:8100", "'localhost:8100' is no address"),
        ("http://a:8100,gpu-2:8100", "'gpu-2:8100' is no address"),
        ("http://a:99999", "is no address"),
        ("http://", "is no address"),
        ("http://a:1 http://b:1", "is no address"),
        ("http://a:1,http://b..c:1", "'http://b..c:1' is no address"),
        ("http://[::1:8100", "is no address"),
        ("http://a:1?key=x", "is no address"),
        ("http://a:1,http://a:1/v1", "'http://a:1' is named twice"),
    ],
)
def test_addresses_that_make_no_sense(addresses: str, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(inference_url=addresses)
    assert wrong(error.value).startswith("PARLEY_INFERENCE_URL: ")
    assert said in wrong(error.value)


def test_keys_are_one_for_all_or_one_each() -> None:
    three = "http://a:1, http://b:1,http://c:1/v1/,"
    assert Settings(inference_url=three).inference_urls == ("http://a:1", "http://b:1", "http://c:1")
    assert Settings(inference_url=three, inference_key=SecretStr("k")).inference_keys == ("k",)
    assert Settings(inference_url=three, inference_key=SecretStr("k, l,m")).inference_keys == ("k", "l", "m")
    assert Settings(inference_url="http://a:1", inference_key=SecretStr("k,l")).inference_keys == ("k,l",)
    with pytest.raises(ValidationError) as error:
        Settings(inference_url=three, inference_key=SecretStr("geheim1,geheim2"))
    assert wrong(error.value) == "PARLEY_INFERENCE_KEY: 2 keys for 3 addresses: give one for all, or one for each"
    assert "geheim" not in str(error.value)
