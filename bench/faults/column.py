"""One column from start to judgement: its stores, its replicas, its clients."""

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from bench.faults.hooks import watch_tools
from bench.faults.replica import Replica, Stores
from bench.faults.schedule import MOST_TRIES, Column, Plan
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
class Stage:
    """A column that runs: its replicas, the clients that ask them, and `plain`, a Parley straight on the stores, which
    owns nothing."""

    stores: Stores
    plain: Parley
    replicas: list[Replica]
    clients: Clients
    witness: Witness

    async def judge(self, turns: Sequence[Turn]) -> Verdict:
        """Hold what was seen of these turns, which have all been followed to their end, against what is stored. An
        embedded column's replica is over after that: one process at a time has its files."""
        if self.stores.embedded:
            await self._close_replicas()
            await _start(self.plain)
        return await judged(self.plain, turns, self.witness, LIMIT)

    async def close(self) -> None:
        await self._close_replicas()
        await _close(self.plain)
        await self.plain.client.close()

    async def _close_replicas(self) -> None:
        while self.replicas:
            replica = self.replicas.pop()
            if self.stores.embedded:
                await replica.settle()
            await replica.close()


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
async def stage(made: Stores, engine: EngineHost, seed: str) -> AsyncIterator[Stage]:
    """People and replicas on these stores. `engine` runs."""
    plain = build(made.settings(f"http://127.0.0.1:{engine.port}"))
    await _start(plain)
    await plain.plans.seed()
    await plain.plans.save("faults", "Faults", 50_000_000, 60_000, LIMIT)
    people = [await _person(plain, number) for number in range(PEOPLE)]
    if made.embedded:
        await _close(plain)
    chance, witness = random.Random(seed), Witness()
    replicas = [Replica(number, made, engine, witness, chance) for number in range(1 if made.embedded else 2)]
    on = Stage(made, plain, replicas, Clients(tuple(replicas), people, witness, chance), witness)
    watch_tools()
    try:
        for replica in replicas:
            await replica.start()
        yield on
    finally:
        await on.close()


async def run(column: Column, planned: Sequence[Plan], seed: int) -> Verdict:
    """Run these turns, a few at a time, and judge them; and one more for each fault that did not come about."""
    with tempfile.TemporaryDirectory() as name, stores(column, Path(name)) as made:
        engine = EngineHost(Path(name), free_port())
        await engine.start()
        try:
            async with stage(made, engine, f"{seed}:{column}:run") as on:
                return await on.judge(await _all(on.clients, planned, column))
        finally:
            await engine.close()


async def _start(plain: Parley) -> None:
    for part in (plain.db, plain.log, plain.leases, plain.limits):
        await part.start()


async def _close(plain: Parley) -> None:
    for part in (plain.limits, plain.leases, plain.log, plain.db):
        await part.close()


async def _all(clients: Clients, planned: Sequence[Plan], column: str) -> list[Turn]:
    waiting, turns = list(reversed(planned)), list[Turn]()

    async def client() -> None:
        while waiting:
            turn = await clients.run(waiting.pop())
            CURRENT.set(None)
            turns.append(turn)
            if not turn.fired and turn.plan.tries < MOST_TRIES:
                waiting.insert(0, turn.plan.again())
            if len(turns) % 25 == 0:
                print(f"{column}: {len(turns)} turns, {len(waiting)} to go", file=sys.stderr, flush=True)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return turns


async def _person(plain: Parley, number: int) -> Identity:
    made = await plain.accounts.create(f"person{number}@example.org", PASSWORD)
    await plain.accounts.set_plan(made.user_id, "faults")
    identity = await plain.accounts.by_key(await plain.accounts.make_key(made.user_id, "faults"))
    assert identity is not None
    return identity
