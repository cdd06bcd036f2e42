"""Two engines behind one app: the one that writes is killed, the other ends the answer, and it is charged once."""

import json
import random
import urllib.request
from collections.abc import Iterator

import pytest

from tests.app import RunningApp
from tests.chaos import charges
from tests.chaos.conftest import account
from tests.chaos.program import Program
from tests.parley import EngineProcess, expected, script

pytestmark = pytest.mark.chaos
WORDS = 500


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineProcess]]:
    """By their addresses, at which they also come back."""
    made = [EngineProcess(tmp_path_factory.mktemp("engine")) for _ in range(2)]
    by_url = {engine.start(): engine for engine in made}
    for url, engine in by_url.items():
        engine.flags = ("--port", url.rpartition(":")[2])
    yield by_url
    for engine in made:
        engine.kill()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, engines: dict[str, EngineProcess]) -> Iterator[RunningApp]:
    env = {
        "PARLEY_INFERENCE_URL": ", ".join(engines),
        "PARLEY_INFERENCE_KEY": "engine-key",
        "PARLEY_DEFAULT_MODEL": "scripted",
    }
    with RunningApp(tmp_path_factory.mktemp("engines") / "home", env=env) as running:
        yield running


@pytest.fixture(scope="module")
def key(app: RunningApp) -> str:
    return account(app)


def running(url: str) -> int:
    asked = urllib.request.Request(f"{url}/status", headers={"Authorization": "Bearer engine-key"})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return int(json.load(answer)["running"])


def figure(app: RunningApp, name: str) -> float:
    """Sum of a figure over the replicas, as /metrics has it."""
    lines = app.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_the_engine_that_writes_is_killed(
    app: RunningApp, engines: dict[str, EngineProcess], key: str, round: int
) -> None:
    question = script(tokens=WORDS, rate=150, seed=round)
    program = Program(app.url, key)
    generation = program.ask(question)
    program.follow(generation, at_least=random.Random(round).randrange(1, 1_500))
    [url] = [url for url in engines if running(url)]
    engines[url].kill()
    assert program.follow(generation) == expected(question)
    usage = program.ended["usage"]
    assert isinstance(usage, dict)
    assert usage["completion_tokens"] == WORDS
    entries = charges.of_sqlite(app.home, generation)
    assert [kind for kind, _ in entries] == ["hold", "settle"]
    assert entries[1][1] == usage["prompt_tokens"] + WORDS
    assert figure(app, "parley_replica_continuations_total") == round + 1
    assert figure(app, "parley_replica_up") == 1
    engines[url].start()


def test_there_is_nothing_to_ask_and_then_there_is(
    app: RunningApp, engines: dict[str, EngineProcess], key: str
) -> None:
    question = script(tokens=WORDS, rate=150, seed=99)
    program = Program(app.url, key)
    generation = program.ask(question)
    program.follow(generation, at_least=200)
    for engine in engines.values():
        engine.kill()
    for engine in engines.values():
        engine.start()
    assert program.follow(generation) == expected(question)
    assert [kind for kind, _ in charges.of_sqlite(app.home, generation)] == ["hold", "settle"]
