"""kill -9 in mid-answer: the answer goes on, ends exact, and is charged once."""

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.app import RunningApp
from tests.chaos import charges, steps
from tests.chaos.conftest import account
from tests.chaos.program import Program
from tests.chaos.stalls import OfSqlite
from tests.parley import expected, script

pytestmark = pytest.mark.chaos
WORDS = 400


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with RunningApp(tmp_path_factory.mktemp("chaos") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def key(app: RunningApp) -> str:
    return account(app)


def charged_once(app: RunningApp, generation: str, prompt_and_answer: int) -> None:
    entries = charges.of_sqlite(app.home, generation)
    assert [kind for kind, _ in entries] == ["hold", "settle"]
    assert entries[1][1] == prompt_and_answer


def test_the_app_is_killed(app: RunningApp, key: str, round: int) -> None:
    question = script(tokens=WORDS, rate=150, seed=round)
    program = Program(app.url, key)
    generation = program.ask(question)
    program.follow(generation, at_least=random.Random(round).randrange(1, len(expected(question)) - 200))
    app.kill9()
    app.start()
    assert program.follow(generation) == expected(question)
    usage = program.ended["usage"]
    assert isinstance(usage, dict)
    assert usage["completion_tokens"] == WORDS
    charged_once(app, generation, usage["prompt_tokens"] + WORDS)


def test_the_engine_is_killed(app: RunningApp, key: str, round: int) -> None:
    question = script(tokens=WORDS, rate=150, seed=100 + round)
    program = Program(app.url, key)
    generation = program.ask(question)
    program.follow(generation, at_least=random.Random(round).randrange(1, len(expected(question)) - 200))
    app.kill9_engine()
    assert program.follow(generation) == expected(question)
    usage = program.ended["usage"]
    assert isinstance(usage, dict)
    charged_once(app, generation, usage["prompt_tokens"] + WORDS)


def test_killed_twice_and_before_the_first_token(app: RunningApp, key: str) -> None:
    question = script(tokens=WORDS, rate=150, seed=7, prefill_s=2)
    program = Program(app.url, key)
    generation = program.ask(question)
    app.kill9()
    app.start()
    program.follow(generation, at_least=300)
    app.kill9()
    app.start()
    assert program.follow(generation) == expected(question)
    usage = program.ended["usage"]
    assert isinstance(usage, dict)
    charged_once(app, generation, usage["prompt_tokens"] + WORDS)


def test_the_server_is_killed_and_nobody_is_left_behind(app: RunningApp, key: str) -> None:
    question = script(tokens=WORDS, rate=150, seed=8)
    program = Program(app.url, key)
    generation = program.ask(question)
    program.follow(generation, at_least=300)
    app.kill9_server()
    app.start()
    assert program.follow(generation) == expected(question)
    usage = program.ended["usage"]
    assert isinstance(usage, dict)
    charged_once(app, generation, usage["prompt_tokens"] + WORDS)


@pytest.mark.parametrize("place", steps.PLACES)
async def test_the_app_is_killed_in_and_between_the_steps_of_a_turn(app: RunningApp, key: str, place: str) -> None:
    program = Program(app.url, key)
    stalls = partial(OfSqlite, app.home)
    question, generation = await steps.begin_and_kill(place, program, 20, stalls, app.kill9)
    await asyncio.to_thread(app.start)
    assert await asyncio.to_thread(program.follow, generation) == steps.whole(question)
    steps.charged_right(program, charges.of_sqlite(app.home, generation))


@pytest.mark.model
def test_the_app_is_killed_while_the_real_model_writes(tmp_path: Path) -> None:
    """A model's text cannot be known beforehand: what was seen must stay, go on without a seam, be charged once."""
    with RunningApp(tmp_path / "home", env={"PARLEY_INFERENCE_ENGINE": "llama_cpp"}) as app:
        program = Program(app.url, account(app))
        generation = program.ask("Write a long story about a lighthouse keeper and her cat.", tokens=250)
        before = program.follow(generation, at_least=150)
        app.kill9()
        app.start()
        whole = program.follow(generation)
        assert whole.startswith(before)
        assert len(whole) > len(before) + 50
        assert program.ended["status"] == "done"
        usage = program.ended["usage"]
        assert isinstance(usage, dict)
        charged_once(app, generation, usage["prompt_tokens"] + usage["completion_tokens"])
