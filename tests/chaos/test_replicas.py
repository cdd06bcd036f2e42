"""Two replicas on PostgreSQL and Valkey: the one that writes an answer is killed, the other ends it."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.app import RunningApp
from tests.chaos import charges, steps
from tests.chaos.conftest import account
from tests.chaos.program import Program
from tests.chaos.stalls import OfServers
from tests.parley import expected, script
from tests.servers import migrated, new_database, shared_postgres, shared_valkey

pytestmark = pytest.mark.chaos
WORDS = 600


@dataclass(slots=True)
class Fleet:
    replicas: list[RunningApp]
    database: str
    key: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, scripted_engine: str) -> Iterator[Fleet]:
    database = migrated(new_database(shared_postgres()))
    env = {
        "PARLEY_DATABASE_URL": database,
        "PARLEY_REDIS_URL": shared_valkey(),
        "PARLEY_INFERENCE_URL": scripted_engine,
        "PARLEY_INFERENCE_KEY": "engine-key",
        "PARLEY_DEFAULT_MODEL": "scripted",
        "PARLEY_LEASE_MS": "1500",
    }
    folder = tmp_path_factory.mktemp("fleet")
    replicas = [RunningApp(folder / name, env=env) for name in ("one", "two")]
    try:
        for replica in replicas:
            replica.start()
        yield Fleet(replicas, database, account(replicas[0]))
    finally:
        for replica in replicas:
            replica.stop()


async def test_the_owner_is_killed(fleet: Fleet, round: int) -> None:
    owner, survivor = fleet.replicas if round % 2 == 0 else fleet.replicas[::-1]
    question = script(tokens=WORDS, rate=150, seed=round)
    there, here = Program(owner.url, fleet.key), Program(survivor.url, fleet.key)
    generation = there.ask(question)
    reach = random.Random(round).randrange(1, len(expected(question)) - 400)
    follow: Callable[[Program], asyncio.Future[str]] = lambda program: asyncio.ensure_future(  # noqa: E731
        asyncio.to_thread(program.follow, generation)
    )
    elsewhere = follow(here)
    await asyncio.to_thread(there.follow, generation, reach)
    owner.kill9()
    there.url = survivor.url
    assert await asyncio.to_thread(there.follow, generation) == expected(question)
    assert await elsewhere == expected(question)
    usage = there.ended["usage"]
    assert isinstance(usage, dict)
    entries = await charges.of_postgres(fleet.database, generation)
    assert [kind for kind, _ in entries] == ["hold", "settle"]
    assert entries[1][1] == usage["prompt_tokens"] + WORDS
    await asyncio.to_thread(owner.start)


@pytest.mark.parametrize("place", steps.PLACES)
async def test_the_owner_is_killed_in_and_between_the_steps_of_a_turn(fleet: Fleet, place: str) -> None:
    at = steps.PLACES.index(place)
    owner, survivor = fleet.replicas if at % 2 == 0 else fleet.replicas[::-1]
    there = Program(owner.url, fleet.key)
    stalls = partial(OfServers, fleet.database)
    question, generation = await steps.begin_and_kill(place, there, 40 + 100 * at, stalls, owner.kill9)
    there.url = survivor.url
    assert await asyncio.to_thread(there.follow, generation) == steps.whole(question)
    steps.charged_right(there, await charges.of_postgres(fleet.database, generation))
    await asyncio.to_thread(owner.start)
