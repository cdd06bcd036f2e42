"""Trouble for one party: what a fault does to a connection, a file, an engine. One at a time for each of them."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tests.faults.proxy import FaultProxy
from tests.parley import EngineProcess

DELAY_MS = 60.0
DELAYED_S = 2.0
AWAY_S = 0.3
"""How long a killed engine is away before it is started again."""


class Trouble(Protocol):
    """What a party can be struck with."""

    async def strike(self, fault: str, seconds: float) -> bool:
        """Begin the fault, behind one that lasts; returns when it has begun, or False if it cannot. It ends by
        itself."""
        ...


class Connection:
    """The connections of one replica to a server. Each of `asking` are bytes of requests whose answer matters."""

    def __init__(self, proxy: FaultProxy, *asking: bytes, cut: bool) -> None:
        self.proxy = proxy
        self._asking = asking
        self._cut = cut
        """Half-open connections are reset in the end, as by whoever finds them dead; else their client has to."""
        self._free = asyncio.Lock()
        self._severed = False

    def sever(self) -> None:
        """For good: its process is dead."""
        self._severed = True
        self.proxy.mode = "reset"

    async def strike(self, fault: str, seconds: float) -> bool:
        await self._free.acquire()
        if self._severed:
            return False
        match fault:
            case "delay":
                self.proxy.delay(DELAY_MS)
                seconds = DELAYED_S
            case "reset":
                self.proxy.reset()
                seconds = 0.0
            case "lost":
                self.proxy.drop_next_answer(*self._asking)
                seconds = 0.0
            case "pause":
                self.proxy.mode = "pause"
            case "half-open":
                self.proxy.mode = "half-open"
        asyncio.get_running_loop().call_later(seconds, self._over, fault)
        return True

    def _over(self, fault: str) -> None:
        self._free.release()
        if self._severed:
            return
        self.proxy.delay(0)
        self.proxy.mode = "pass"
        if fault == "half-open" and self._cut:
            self.proxy.reset()


class File:
    """An SQLite file whose write lock another program holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free = asyncio.Lock()

    async def strike(self, fault: str, seconds: float) -> bool:
        await self._free.acquire()
        held = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().run_in_executor(None, self._hold, 0.2 if fault == "delay" else seconds, held)
        return await held

    def _hold(self, seconds: float, held: "asyncio.Future[bool]") -> None:
        loop = held.get_loop()
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=10)) as other:
                other.execute("BEGIN IMMEDIATE")
                loop.call_soon_threadsafe(_set, held, True)
                time.sleep(seconds)
                other.execute("ROLLBACK")
        finally:
            loop.call_soon_threadsafe(_set, held, False)
            loop.call_soon_threadsafe(self._free.release)


class Engine:
    """The engine's process, and one replica's connections to it."""

    def __init__(self, process: "EngineHost", connection: Connection) -> None:
        self._process = process
        self._connection = connection

    async def strike(self, fault: str, seconds: float) -> bool:
        if fault == "killed":
            return self._process.kill()
        return await self._connection.strike(fault, seconds)


class EngineHost:
    """One scripted engine for all replicas, which comes back on its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._engine = EngineProcess(folder, flags=("--port", str(port)))
        self._returning: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        await asyncio.to_thread(self._engine.start)

    def kill(self) -> bool:
        """At once; it comes back a moment later. False if it is away already."""
        if self._returning is not None and not self._returning.done():
            return False
        self._engine.kill()
        self._returning = asyncio.create_task(self._return())
        return True

    async def close(self) -> None:
        if self._returning is not None:
            await self._returning
        self._engine.kill()

    async def _return(self) -> None:
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(self._engine.start)


def _set(future: "asyncio.Future[bool]", value: bool) -> None:
    if not future.done():
        future.set_result(value)
