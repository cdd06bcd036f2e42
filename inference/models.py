"""The models of one service: loads, unloads and switches them while others go on, and brings back what has died.

A model is loaded when somebody asks for it, unless an administrator has switched it off. Loads happen one at a time,
each only if there is memory for it; for its sake the model that was idle longest goes. Knows the catalogue's entries
and how an engine is had from one; no HTTP, no particular engine.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from inference import memory
from inference.catalog import Model
from inference.engines.base import Engine
from inference.hosted import Hosted
from inference.metrics import Board, Metrics
from inference.protocol import (
    Chunk,
    EngineDied,
    EngineError,
    ModelCard,
    ModelNotFound,
    Overloaded,
    QueuePosition,
    Request,
    TooLittleMemory,
)
from inference.service import Service

CHECK_S = 2.0  # Between two looks at the health of every engine, and at who is idle.
STRIKES = 3  # So many failed in a row, and an engine that is still there is taken for hung.
PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # Before an engine is brought back the first, second, ... time in a row.
STEADY_S = 60.0  # An engine that lived for so long begins again with the first of them.
RETRY_S = 5.0  # A model that could not be loaded is not tried again before.
DRAIN_S = 60.0

logger = logging.getLogger(__name__)

Opener = Callable[[Model, Callable[[float], None]], Awaitable[Engine]]


class Models:
    """`known` are the models to host, the first is the default; `engine` makes one's engine, and says how far it is.

    `needs` is how many bytes of memory a model takes (0: nobody knows), `free` how many there are (None: likewise).
    """

    def __init__(
        self,
        known: Sequence[Model],
        engine: Opener,
        queue_limit: int = 256,
        needs: Callable[[Model], int] = lambda model: 0,
        free: Callable[[], int | None] = memory.free,
    ) -> None:
        self._board = Board()
        self._all = [Hosted(model, Metrics(self._board, model.id)) for model in known]
        self._engine = engine
        self._queue_limit = queue_limit
        self._needs = needs
        self._free = free
        self._loading = asyncio.Lock()
        self._trouble = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._began = time.monotonic()

    async def start(self) -> None:
        """Load the default model. Raises its `EngineError`, which `status` then shows too."""
        self._watcher = asyncio.create_task(self._watch())
        await self.load("")

    async def close(self) -> None:
        """Unload everything, at once."""
        tasks = [task for task in (self._watcher, *(one.work for one in self._all)) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(self._close(one) for one in self._all))

    def hosted(self, name: str) -> Hosted:
        """The model of that name, the default for "". Raises `ModelNotFound`."""
        if not name:
            return self._all[0]
        for one in self._all:
            if name == one.id:
                return one
        raise ModelNotFound(f"there is no model {name!r} here, only {', '.join(repr(one.id) for one in self._all)}")

    @asynccontextmanager
    async def use(self, name: str, max_wait_ms: int = 0) -> AsyncIterator[Service]:
        """The model's service, loaded if need be; it is not unloaded before the block ends.

        Raises `ModelNotFound`, `Overloaded` if it is being unloaded or did not load within `max_wait_ms` (0: however
        long it takes), or the error for which it cannot be loaded.
        """
        one = self.hosted(name)
        if one.state == "draining":
            raise Overloaded(f"{one.id} is just being unloaded", 2.0)
        if one.state == "off":
            raise ModelNotFound(f"{one.id} is switched off here")
        if one.state == "failed" and one.error and time.monotonic() - one.since < RETRY_S:
            raise one.error.with_traceback(None)
        one.users += 1
        try:
            if one.state == "ready" and one.service:
                yield one.service
            else:
                try:
                    async with asyncio.timeout(max_wait_ms / 1_000 or None):
                        service = await asyncio.shield(self._work(one))
                except TimeoutError:
                    raise Overloaded(f"{one.id} is still being loaded", 2.0) from None
                yield service
        finally:
            one.users -= 1
            one.used_at = time.monotonic()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer, by the model that the request names. See `Service.stream`."""
        began = time.monotonic()
        async with self.use(request.model, request.max_wait_ms) as service:
            if request.max_wait_ms:  # Of which the load may have taken some.
                left = request.max_wait_ms - round(1_000 * (time.monotonic() - began))
                request = replace(request, max_wait_ms=max(1, left))
            async with aclosing(service.stream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def load(self, name: str, switch: bool = False) -> None:
        """Load and warm up a model, unless it is loaded. `switch`: all others are drained and unloaded before.

        Raises the error for which it cannot be loaded.
        """
        one = self.hosted(name)
        if switch:
            others = (other for other in self._all if other is not one)
            await asyncio.gather(*(self._unload(other, off=False) for other in others))
        await asyncio.shield(self._work(one))

    async def unload(self, name: str, drain_s: float = DRAIN_S) -> None:
        """Unload a model once nobody uses it any more, or after `drain_s`, and load it only when told to."""
        await self._unload(self.hosted(name), off=True, drain_s=drain_s)

    async def healthy(self) -> bool:
        """Whether the default model answers, or would once somebody asks."""
        one = self._all[0]
        if one.service and one.state == "ready":
            return await one.service.engine.health()
        return one.state in ("unloaded", "off", "draining")

    def cards(self) -> list[ModelCard]:
        """What is offered: all but what an administrator has switched off."""
        return [one.card() for one in self._all if one.state != "off"]

    def queue_positions(self) -> dict[str, QueuePosition]:
        """Every waiting job that has an id, of all models."""
        services = (one.service for one in self._all if one.service)
        return {id: place for service in services for id, place in service.queue.positions().items()}

    def exposition(self) -> bytes:
        for one in self._all:
            one.measure()
        return self._board.exposition()

    def status(self) -> dict[str, Any]:
        """For people, pools and tests: the default model's numbers, with what all have to do, and every model's own."""
        each = [one.status() for one in self._all]
        return {
            **each[0],
            "running": sum(one["running"] for one in each),
            "waiting": sum(one["waiting"] for one in each),
            "uptime_s": round(time.monotonic() - self._began, 1),
            "memory_free": self._free(),
            "models": each,
        }

    def _work(self, one: Hosted, pause: float = 0.0) -> "asyncio.Task[Service]":
        """The task that loads it, shared by all who wait for that."""
        if one.work is None or one.work.done():
            one.work = asyncio.create_task(self._load(one, pause))
            one.work.add_done_callback(_looked_at)
        return one.work

    async def _load(self, one: Hosted, pause: float) -> Service:
        async with one.lock:
            if one.service:
                return one.service
            one.become("checking")
            try:
                await asyncio.sleep(pause)
                async with self._loading:  # One at a time, or two would count on the same memory.
                    await self._make_room(one)
                    engine = await self._engine(one.model, one.tell)
                    one.become("loading")
                    await engine.load()
            except Overloaded:
                one.become("unloaded")
                raise
            except EngineError as error:
                logger.warning("%s could not be loaded: %s", one.id, error)
                one.become("failed", error)
                raise
            except Exception as error:
                logger.exception("%s could not be loaded", one.id)
                failed = EngineError(f"{one.id} could not be loaded: {error}")
                one.become("failed", failed)
                raise failed from error
            except asyncio.CancelledError:
                one.become("unloaded")
                raise
            one.able = engine.capabilities
            one.id = one.able.model
            one.service = Service(engine, one.metrics, self._queue_limit, partial(self._suspect, one))
            one.used_at, one.strikes, one.healed = time.monotonic(), 0, 0
            one.become("ready")
            return one.service

    async def _make_room(self, wanted: Hosted) -> None:
        need = self._needs(wanted.model)
        while need and (free := self._free()) is not None and need > free:
            others = [one for one in self._all if one.service and self._needs(one.model)]
            # Nobody holds the lock of one that is ready, or whoever waits for it here might wait for ever.
            idle = [one for one in others if one.state == "ready" and not one.users]
            what = f"{wanted.id} takes about {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
            if need > free + self._taken(others):
                raise TooLittleMemory(what)
            if need > free + self._taken(idle):
                busy = next(one for one in others if one not in idle)
                raise Overloaded(f"{what}, and {busy.id} is at work", 5.0)
            await self._unload(min(idle, key=lambda one: one.used_at), off=False)

    def _taken(self, some: Sequence[Hosted]) -> int:
        return sum(self._needs(one.model) for one in some)

    async def _unload(self, one: Hosted, off: bool, drain_s: float = DRAIN_S) -> None:
        async with one.lock:
            if one.service:
                one.become("draining")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(drain_s):
                        while one.users:
                            await asyncio.sleep(0.02)
                await self._close(one)
            one.become("off" if off or one.state == "off" else "unloaded")

    async def _close(self, one: Hosted) -> None:
        service, one.service = one.service, None
        if service:
            await service.engine.unload()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._trouble.wait()
            self._trouble.clear()
            for one in self._all:
                try:
                    await self._look_after(one)
                except Exception:
                    logger.exception("looking after %s failed", one.id)

    def _suspect(self, one: Hosted) -> None:
        """An answer of it has broken off: the next look comes at once, and a single failure is enough."""
        one.strikes = STRIKES - 1
        self._trouble.set()

    async def _look_after(self, one: Hosted) -> None:
        now, service = time.monotonic(), one.service
        if one.state == "failed" and one is self._all[0] and now - one.since > RETRY_S:
            self._work(one)  # Without it the service is not well, so that nobody may come and ask.
        if one.state != "ready" or service is None:
            return
        if one.model.idle_s and not one.users and now - one.used_at > one.model.idle_s:
            await self._unload(one, off=False)
            return
        if (healed := service.engine.capabilities.healed) is not None:
            for _ in range(healed - one.healed):
                one.metrics.restarted()
            one.healed = healed
            return
        one.strikes = 0 if await service.engine.health() else one.strikes + 1
        if one.strikes >= STRIKES:
            one.deaths = 1 if now - one.since > STEADY_S else one.deaths + 1
            await self._bring_back(one, service, PAUSES[min(one.deaths, len(PAUSES)) - 1])

    async def _bring_back(self, one: Hosted, dead: Service, pause: float) -> None:
        async with one.lock:
            if one.service is not dead:  # It was unloaded meanwhile, which is why it did not answer.
                return
            logger.warning("the engine of %s has died and is brought back", one.id)
            one.metrics.restarted()
            one.become("failed", EngineDied(f"the engine of {one.id} has died and is being brought back"))
            await self._close(one)
        self._work(one, pause)


def _looked_at(task: "asyncio.Task[Service]") -> None:
    # Whoever waits for it gets its error; nobody may be waiting.
    if not task.cancelled():
        task.exception()
