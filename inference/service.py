"""One engine with a queue in front: a request's life from arrival to its last token, or to its cancellation.

Knows the engine's protocol and the queue's, no HTTP and no particular engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from inference.engines.base import Engine
from inference.fairqueue import FairQueue
from inference.metrics import Metrics, Stage
from inference.protocol import (
    Chunk,
    ContextTooLong,
    EngineDied,
    EngineError,
    ModelCard,
    ModelNotFound,
    Overloaded,
    Request,
)

UNASKED = 2048  # Tokens of an answer whose length nobody limited: its room is set aside while it runs.

State = Literal["loading", "ready", "failed", "closed"]


class Service:
    """`queue_limit`: how many requests may wait; the next one is refused with `Overloaded`."""

    def __init__(self, engine: Engine, queue_limit: int = 256) -> None:
        self.engine = engine
        self.metrics = Metrics()
        self.state: State = "loading"
        self.error = ""
        self._queue_limit = queue_limit
        self.queue = FairQueue(1, 0, 0)
        self._began = time.monotonic()

    async def start(self) -> None:
        """Load and warm up the engine. Raises its `EngineError`, which `/status` then shows too."""
        try:
            await self.engine.load()
        except EngineError as error:
            self.state, self.error = "failed", str(error)
            raise
        able = self.engine.capabilities
        self.queue = FairQueue(able.slots, able.kv_tokens, self._queue_limit)
        self.state = "ready"

    async def close(self) -> None:
        self.state = "closed"
        await self.engine.unload()

    def card(self) -> ModelCard:
        able = self.engine.capabilities
        return ModelCard(able.model, able.context, able.engine, self.state == "ready", able.quantization)

    def check(self, model: str) -> None:
        """Raises `Overloaded` while nothing can be asked, `ModelNotFound` for a model that is not here."""
        if self.state != "ready":
            raise Overloaded(f"the model is not ready: {self.error or self.state}", 1.0)
        mine = self.engine.capabilities.model
        if model not in ("", mine):
            raise ModelNotFound(f"there is no model {model!r} here, only {mine!r}")

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer, cut where there is no more room; `max_tokens` 0 means that nobody said how long it may be.

        Closing the generator, or cancelling whoever waits for it, takes the job out of the queue or off its slot
        before it returns.
        """
        arrived = time.monotonic()
        self.metrics.arrived()
        stage: Stage = "queue"
        finished = False
        try:
            request, prompt = await self._fitted(request)
            async with self.queue.place(request, prompt + request.sampling.max_tokens) as place:
                place.spent = prompt
                self.metrics.admitted(time.monotonic() - arrived)
                stage = "prefill"
                async with aclosing(self.engine.stream(request)) as chunks:
                    async for chunk in chunks:
                        if stage == "prefill":
                            stage = "decode"
                            self.metrics.first_token(time.monotonic() - arrived)
                        self.metrics.generated(chunk.tokens)
                        place.spent += chunk.tokens
                        if chunk.usage:
                            self.metrics.read(chunk.usage)
                            place.spent -= chunk.usage.cached_tokens
                        finished = chunk.finish is not None
                        yield chunk
        except EngineError as error:
            self.metrics.ended("failed" if isinstance(error, EngineDied) else "refused")
            raise
        except (GeneratorExit, asyncio.CancelledError):  # Whoever asked has gone.
            if finished:
                self.metrics.ended("completed")
            else:
                self.metrics.cancelled(stage)
            raise
        except Exception:
            self.metrics.ended("failed")
            raise
        self.metrics.ended("completed")

    async def _fitted(self, request: Request) -> tuple[Request, int]:
        """The request with a `max_tokens` that fits, and how many tokens its prompt has."""
        self.check(request.model)
        context = self.engine.capabilities.context
        prompt = len(await self.engine.prompt(request.messages, request.continue_from))
        room = context - prompt
        if room < 1:
            raise ContextTooLong(f"the prompt has {prompt} tokens; this model's window is {context} with the answer")
        wanted = min(request.sampling.max_tokens or UNASKED, room)
        return replace(request, sampling=replace(request.sampling, max_tokens=wanted)), prompt

    def exposition(self) -> bytes:
        return self.metrics.exposition(self.queue.running, self.queue.waiting, self.state == "ready")

    def status(self) -> dict[str, Any]:
        """For people and tests: what is here, what it does right now, and the totals."""
        able = self.engine.capabilities
        return {
            "state": self.state,
            "error": self.error,
            "model": able.model,
            "engine": able.engine,
            "quantization": able.quantization,
            "context": able.context,
            "slots": able.slots,
            "kv_tokens": able.kv_tokens,
            "running": self.queue.running,
            "waiting": self.queue.waiting,
            "retry_after": self.queue.retry_after,
            "uptime_s": round(time.monotonic() - self._began, 1),
            **self.metrics.totals(),
        }
