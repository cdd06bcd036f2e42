"""One replica of Parley in this process, behind fault proxies of its own, with a look-out at every await of a turn.

What `killed` is here, and where it differs from SIGKILL (which `tests/chaos` sends to real processes): first all its
connections are reset for good, and its SQLite files refuse whatever it writes from then on; only then its tasks are
cancelled. So their `finally` blocks still run, but can change nothing outside this process's memory. Its lease runs out
by itself, and the next life has nothing of it but what was stored. What is not like a dead process: the engine sees a
reset and not an end of its connection, memory that the process shares (metrics, the event loop) lives on, and an
embedded life's files are open until its tasks have ended.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bench.faults.cut import cut_off
from bench.faults.hooks import hooked
from bench.faults.trouble import Connection, Engine, EngineHost, File, Trouble
from bench.faults.witness import CURRENT, Killed, Turn, Witness
from chat_app.settings import Settings
from chat_app.wiring import Parley, build
from tests.faults.proxy import FaultProxy, at_port, port_of

LEASE_MS = 1_500
LONGEST_AWAY_S = 1.5
CLOSING_S = 20.0
COMMITS = (b"COMMIT", b'"finish":"', b"\x03api")
"""What is in the request that commits a hold or a settlement: a transaction's end, or the one statement that is all of
it (a receipt, the source of a program's turn)."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a column keeps things. Both addresses are empty for the embedded one."""

    home: Path
    database_url: str = ""
    redis_url: str = ""

    @property
    def embedded(self) -> bool:
        return not self.redis_url

    def settings(self, engine_url: str, **changed: Any) -> Settings:
        """Parley's settings on these stores, or on `changed` ones in front of them."""
        chosen = {"database_url": self.database_url, "redis_url": self.redis_url, **changed}
        return Settings(
            home=self.home,
            database_url=SecretStr(chosen["database_url"]),
            redis_url=SecretStr(chosen["redis_url"]),
            inference_url=engine_url,
            inference_key=SecretStr("engine-key"),
            default_model="scripted",
            export_minutes=0,
            lease_ms=LEASE_MS,
            log_level="error",
        )


@dataclass(slots=True, eq=False)
class Life:
    """One life of a replica, from its start to its end."""

    parley: Parley
    stack: AsyncExitStack
    connections: list[Connection]
    troubles: dict[str, Trouble]
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: bool = False

    @property
    def dying(self) -> bool:
        """Whether it was cut or has ended, so that whatever it raises has no client any more."""
        return self._cut or self.dead.is_set()

    def cut(self) -> None:
        """From now on it reaches nothing, neither store nor engine."""
        self._cut = True
        for connection in self.connections:
            connection.sever()
        if self.parley.settings.embedded:
            cut_off(self.parley)


class Replica:
    """Lives again and again until it is ended. `up` is set while it can be asked."""

    def __init__(
        self, number: int, stores: Stores, engine: EngineHost, witness: Witness, chance: random.Random
    ) -> None:
        self.number = number
        self.up = asyncio.Event()
        self._stores = stores
        self._engine = engine
        self._witness = witness
        self._chance = chance
        self._life: Life | None = None
        self._changing: asyncio.Task[None] | None = None
        self._burials: set[asyncio.Task[None]] = set()

    @property
    def life(self) -> Life:
        """The present one, or the last."""
        assert self._life is not None
        return self._life

    @property
    def parley(self) -> Parley:
        return self.life.parley

    async def start(self) -> None:
        stack = AsyncExitStack()
        engine = Connection(await _proxy(stack, self._engine.port), b"POST /v1/chat", cut=True)
        connections, troubles = [engine], dict[str, Trouble]()
        changed = {}
        if self._stores.embedded:
            troubles["database"] = File(self._stores.home / "parley.db")
            troubles["log"] = File(self._stores.home / "log.db")
        else:
            database = Connection(await _proxy(stack, port_of(self._stores.database_url)), *COMMITS, cut=True)
            log = Connection(await _proxy(stack, port_of(self._stores.redis_url)), b"EVALSHA", cut=False)
            connections += [database, log]
            troubles |= {"database": database, "log": log}
            changed["database_url"] = at_port(self._stores.database_url, database.proxy.port)
            changed["redis_url"] = at_port(self._stores.redis_url, log.proxy.port)
        troubles["engine"] = Engine(self._engine, engine)
        parley = build(self._stores.settings(f"http://127.0.0.1:{engine.proxy.port}", **changed))
        life = Life(parley, stack, connections, troubles)
        hooked(parley, self._witness, lambda moment: self._reach(life, moment))
        for part in (parley.db, parley.log, parley.leases, parley.limits):
            await part.start()
            stack.push_async_callback(part.close)
        stack.push_async_callback(parley.client.close)
        await parley.ownership.start(parley.worker.work, parley.worker.beat)
        stack.push_async_callback(parley.ownership.close)
        self._life = life
        self.up.set()

    async def close(self) -> None:
        """End it in order, for good."""
        if self._changing is not None:
            await self._changing
        self.up.clear()
        await self._end(self.life)
        await asyncio.gather(*self._burials, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until no life is about to change, and nothing is worked on; 60 s at most."""
        if self._changing is not None:
            await self._changing
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while self.parley.ownership.running:
                    await asyncio.sleep(0.1)

    def lose(self, *, kill: bool) -> bool:
        """End this life, in order or as if it were killed, and begin another a moment later. False if it is ending."""
        if self._changing is not None and not self._changing.done():
            return False
        self.up.clear()
        self._changing = asyncio.create_task(self._change(kill), context=Context())
        return True

    async def strike(self, party: str, fault: str, seconds: float) -> bool:
        """Let a party have a fault; returns when it has begun, or False if it cannot."""
        if party == "replica":
            return self.lose(kill=fault == "killed")
        return await self.life.troubles[party].strike(fault, seconds)

    async def _change(self, kill: bool) -> None:
        life = self.life
        if kill:
            life.cut()
        if kill and not self._stores.embedded:
            burial = asyncio.create_task(self._end(life))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)
            await life.dead.wait()
        else:
            await self._end(life)
        await asyncio.sleep(self._chance.uniform(0.1, LONGEST_AWAY_S))
        await _until_started(self.start)

    async def _end(self, life: Life) -> None:
        with suppress(Exception):
            await asyncio.wait_for(life.parley.ownership.close(), CLOSING_S)
        life.dead.set()
        with suppress(Exception):
            await asyncio.wait_for(life.stack.aclose(), CLOSING_S)

    async def _reach(self, life: Life, moment: str) -> None:
        """A turn has come to one of its awaits here. Raises `Killed` if this life ends there."""
        turn: Turn | None = CURRENT.get()
        if turn is None or turn.fired or turn.plan.moment != moment or life is not self._life:
            return
        turn.passes += 1
        plan = turn.plan
        if moment == "append" and turn.passes < plan.nth:
            return
        turn.fired = True
        turn.fired = await self.strike(plan.party, plan.fault, plan.seconds)
        if turn.fired and (plan.party, plan.fault) == ("replica", "killed"):
            await life.dead.wait()
            raise Killed


async def _proxy(stack: AsyncExitStack, port: int) -> FaultProxy:
    return await stack.enter_async_context(FaultProxy(port))


async def _until_started(start: Callable[[], Awaitable[None]]) -> None:
    for _ in range(20):
        try:
            return await start()
        except Exception:  # Its stores may be paused.
            await asyncio.sleep(0.5)
    await start()
