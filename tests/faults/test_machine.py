"""Turns that run while anything befalls anything, in any order that hypothesis thinks of, on both columns.

`bench.faults` has a fault for each await; here several overlap. The fleet has two replicas. Half of the answers come
from an engine whose continuation differs each time, so that a seam would show. What hypothesis prints of a failure is
what was done; when it happened within the turns differs from run to run, so it does not look for a shorter case.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import SecretStr

from bench.faults.column import Stage, stage
from bench.faults.replica import Stores
from bench.faults.schedule import CALL, FAULTS, Column, Plan
from bench.faults.trouble import EngineHost
from bench.faults.witness import Turn
from chat_app.data.migrations import migrate
from chat_app.settings import Settings
from tests.servers import free_port, new_database, shared_postgres, shared_template, shared_valkey

EXAMPLES = int(os.environ.get("PARLEY_FAULTS_EXAMPLES", "4"))
"""Runs of each column; more of them find more."""
STEPS = 14
RUNNING = 4
"""Turns that are asked for at once, at most."""
PATIENCE_S = 150.0

T = TypeVar("T")


class World:
    """Both columns' stores and one engine, in an event loop of its own that goes on while hypothesis thinks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="world", daemon=True)
        self._thread.start()
        self._home = folder / "migrated"
        migrate(Settings(home=self._home, database_url=SecretStr(""), redis_url=SecretStr("")))
        self.engine = EngineHost(folder, free_port())
        self.do(self.engine.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which runs in the world's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def stores(self, column: Column, folder: Path) -> Stores:
        """Empty ones, migrated."""
        home = shutil.copytree(self._home, folder / "home")
        if column == "embedded":
            return Stores(home)
        with redis.Redis.from_url(shared_valkey()) as valkey:
            valkey.flushdb()
        return Stores(home, new_database(shared_postgres(), shared_template()), shared_valkey())

    def close(self) -> None:
        self.do(self.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


class Machine(RuleBasedStateMachine):
    """Asks, strikes and waits. At its end every turn has ended as it should, whatever happened meanwhile."""

    world: World
    column: Column

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._stack = AsyncExitStack()
        self._turns: list[asyncio.Task[Turn]] = []
        stores = self.world.stores(self.column, Path(self._folder.name))
        staged = self._stack.enter_async_context(stage(stores, self.world.engine, "machine"))
        self._on: Stage = self.world.do(staged)

    @rule(
        tokens=st.integers(20, 90),
        drift=st.booleans(),
        calls=st.booleans(),
        program=st.booleans(),
        stopped=st.integers(0, 7).map(lambda number: number == 7),
    )
    def ask(self, tokens: int, drift: bool, calls: bool, program: bool, stopped: bool) -> None:
        """A turn begins, of one model step or of two with the calculator between them."""
        number = len(self._turns)
        said = {"tokens": tokens, "rate": 80, "seed": number, "drift": drift}
        directive: dict[str, Any] = {**said, "calls": [CALL], "then": {**said, "seed": number + 100}} if calls else said
        source = "api" if program else "chat"
        plan = Plan(number, "any time", "anything", "struck", 0.0, 1, directive, source, stopped)
        self.world.do(self._ask(plan))

    @rule(pick=st.randoms(use_true_random=False), seconds=st.floats(0.1, 2.5), where=st.integers(0, 1))
    def strike(self, pick: Any, seconds: float, where: int) -> None:
        """A fault begins. Others may last."""
        faults = FAULTS[self.column]
        party = pick.choice(sorted(faults))
        self.world.do(self._strike(where, party, pick.choice(faults[party]), seconds))

    @rule(seconds=st.floats(0.05, 0.8))
    def wait(self, seconds: float) -> None:
        """Things go on."""
        self.world.do(asyncio.sleep(seconds))

    def teardown(self) -> None:
        """All of it ends, and is judged."""
        try:
            verdict = self.world.do(self._judged())
        finally:
            self.world.do(self._stack.aclose())
            self._folder.cleanup()
        assert not verdict, "\n".join(verdict)

    async def _ask(self, plan: Plan) -> None:
        while len([turn for turn in self._turns if not turn.done()]) >= RUNNING:
            await asyncio.sleep(0.05)
        self._turns.append(asyncio.create_task(self._on.clients.run(plan)))

    async def _strike(self, where: int, party: str, fault: str, seconds: float) -> None:
        replica = self._on.replicas[where % len(self._on.replicas)]
        await replica.up.wait()
        await replica.strike(party, fault, seconds)

    async def _judged(self) -> list[str]:
        verdict = await self._on.judge(await asyncio.gather(*self._turns))
        return verdict.found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("column", ["embedded", "fleet"])
def test_turns_end_as_they_should_whatever_happens_meanwhile(world: World, column: Column) -> None:
    machine = type("Machine", (Machine,), {"world": world, "column": column})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
