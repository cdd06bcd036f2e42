"""One column from start to judgement: its stores, its replicas, its clients."""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from bench.faults.hooks import watch_tools
from bench.faults.replica import Replica, Stores
from bench.faults.schedule import Column, Plan
from bench.faults.trouble import EngineHost
from bench.faults.verdict import Verdict, judged
from bench.faults.viewing import Clients
from bench.faults.witness import CURRENT, Turn, Witness
from chat_app.accounts.identity import Identity
from chat_app.data.migrations import migrate
from chat_app.wiring import Parley, build
from tests.servers import Postgres, Valkey, free_port, migrated, new_database

CLIENTS, PEOPLE, LIMIT = 8, 4, 3
PASSWORD = "correct horse battery"


@dataclass(slots=True)
class Setting:
    """A column that runs: `plain` is a Parley straight on its stores, which owns nothing."""

    stores: Stores
    plain: Parley
    engine: EngineHost
    people: list[Identity]
    witness: Witness


@contextmanager
def stores(column: Column, folder: Path) -> Iterator[Stores]:
    """Empty stores of a column, migrated; the fleet's on servers of their own."""
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        made = Stores(home)
        if column == "fleet":
            postgres, valkey = Postgres(), Valkey()
            for server in (postgres, valkey):
                stack.callback(server.remove)
                server.start()
            made = Stores(home, migrated(new_database(postgres.url)), valkey.url)
        else:
            run = Thread(target=migrate, args=(made.settings("http://127.0.0.1:1"),))  # it needs a loop of its own
            run.start()
            run.join()
        yield made


@asynccontextmanager
async def setting(made: Stores, folder: Path) -> Any:
    """People and an engine for a column."""
    engine = EngineHost(folder, free_port())
    await engine.start()
    plain = build(made.settings(f"http://127.0.0.1:{engine.port}"))
    parts = (plain.db, plain.log, plain.leases, plain.limits)
    for part in parts:
        await part.start()
    await plain.plans.seed()
    await plain.plans.save("faults", "Faults", 50_000_000, 60_000, LIMIT)
    people = [await _person(plain, number) for number in range(PEOPLE)]
    if made.embedded:  # One process at a time has the files; this one comes back at the end.
        for part in reversed(parts):
            await part.close()
    try:
        yield Setting(made, plain, engine, people, Witness())
    finally:
        for part in reversed(parts):
            await part.close()
        await plain.client.close()
        await engine.close()


async def run(column: Column, planned: Sequence[Plan], seed: int) -> tuple[Verdict, Witness]:
    """Run these turns, a few at a time, and judge them."""
    with tempfile.TemporaryDirectory() as name, stores(column, Path(name)) as made:
        async with setting(made, Path(name)) as scene:
            chance = random.Random(f"{seed}:{column}:run")
            count = 1 if made.embedded else 2
            replicas = [Replica(number, made, scene.engine, scene.witness, chance) for number in range(count)]
            watch_tools()
            for replica in replicas:
                await replica.start()
            clients = Clients(replicas, scene.people, scene.witness, chance)
            turns = await _all(clients, planned, column)
            if made.embedded:
                for replica in replicas:
                    await replica.settle()
                    await replica.close()
                for part in (scene.plain.db, scene.plain.log, scene.plain.leases, scene.plain.limits):
                    await part.start()
                return await judged(scene.plain, turns, scene.witness, LIMIT), scene.witness
            verdict = await judged(scene.plain, turns, scene.witness, LIMIT)
            for replica in replicas:
                await replica.close()
            return verdict, scene.witness


async def _all(clients: Clients, planned: Sequence[Plan], column: str) -> list[Turn]:
    waiting, turns = list(reversed(planned)), list[Turn]()

    async def client() -> None:
        while waiting:
            turns.append(await clients.run(waiting.pop()))
            CURRENT.set(None)
            if len(turns) % 25 == 0:
                print(f"{column}: {len(turns)} of {len(planned)} turns", file=sys.stderr, flush=True)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return turns


async def _person(plain: Parley, number: int) -> Identity:
    made = await plain.accounts.create(f"person{number}@example.org", PASSWORD)
    await plain.accounts.set_plan(made.user_id, "faults")
    identity = await plain.accounts.by_key(await plain.accounts.make_key(made.user_id, "faults"))
    assert identity is not None
    return identity
