"""What a turn asks of inference, and how inference's troubles sound to a person. It does not know any engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from chat_app.turn.ask import TurnError
from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    Damaged,
    EngineError,
    Message,
    ModelCard,
    Overloaded,
    QueuePosition,
    Request,
    Tool,
    TooLittleMemory,
)

SOON_S = 2.0
"""Seconds without any progress after which another model stands in for one that is gone or busy, where one may."""
LOOK_S = 1.0
"""How old what this process knows of the engine's queue may be."""


class Engine(Protocol):
    """What a turn asks of inference. `inference.continuation.SteadyClient` is one."""

    def stream(
        self, request: Request, patience: Callable[[], float | None] | None = None
    ) -> AsyncGenerator[Chunk, None]: ...

    async def count(
        self,
        model: str,
        messages: Sequence[Message],
        continue_from: str = "",
        tools: Sequence[Tool] = (),
        patience: float | None = None,
    ) -> int: ...

    async def models(self) -> list[ModelCard]: ...

    async def queue_positions(self) -> dict[str, QueuePosition]: ...


class QueueView:
    """The engine's queue as this process last saw it. However many wait and ask, the engine is asked once a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: dict[str, QueuePosition] = {}
        self._seen_at = 0.0
        self._looking = asyncio.Lock()

    async def position(self, generation_id: str) -> QueuePosition | None:
        """Where an answer is in the queue; None if it does not wait, or nobody knows."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._seen_at >= LOOK_S:
                self._seen = await self._engine.queue_positions()
                self._seen_at = loop.time()
        return self._seen.get(generation_id)


async def offered(engine: Engine) -> list[str]:
    """The names of the models that can be chosen now; none while the engine does not respond."""
    try:
        return [card.id for card in await engine.models()]
    except EngineError:
        return []


async def warm(engine: Engine, model: str) -> str:
    """Waits until a model is loaded, if that has to be done first; returns why it cannot be, in a person's words."""
    try:
        await engine.count(model, [Message("user", "Hello")])
    except EngineError as error:
        return as_turn_error(error).message
    return ""


async def until_stopped(stop: asyncio.Event, stream: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The stream until it ends or `stop` is set; either way it is closed at once, which frees the engine's slot."""
    reader = asyncio.current_task()
    assert reader is not None
    waiting = interrupted = False

    # One task for the whole answer rather than one a chunk: this is the hot path.
    async def interrupt() -> None:
        nonlocal interrupted
        await stop.wait()
        if waiting:  # Else the reader is busy with a chunk, which it finishes first.
            interrupted = reader.cancel()

    interrupting = asyncio.create_task(interrupt())
    try:
        while not stop.is_set():
            waiting = True
            try:
                chunk = await anext(stream, None)
            except asyncio.CancelledError:
                if interrupted and reader.uncancel() == 0:
                    return
                raise
            finally:
                waiting = False
            if chunk is None:
                return
            yield chunk
    finally:
        interrupting.cancel()
        await stream.aclose()


def at_fault(error: EngineError) -> bool:
    """Whether the request is to blame: no other model would take it, and nothing is wrong with this one."""
    return isinstance(error, BadRequest | ContextTooLong)


def as_turn_error(error: EngineError) -> TurnError:
    """An engine's error in a person's words."""
    match error:
        case ContextTooLong():
            return TurnError("context_too_long", "This conversation is too long for the model. Start a new chat.")
        case BadRequest():
            return TurnError("bad_input", f"The model cannot take this request: {error}")
        case Overloaded():
            return TurnError(
                "engine_unavailable",
                "The model is busy right now. Try again in a moment.",
                503,
                error.retry_after,
            )
        case Damaged():
            return TurnError("engine_unavailable", "This model cannot be loaded: its file is damaged.", 503, 60)
        case TooLittleMemory():
            return TurnError(
                "engine_unavailable", "There is not enough memory for this model. Choose another one.", 503, 60
            )
        case _:
            return TurnError(
                "engine_unavailable", "The model is not available right now. Try again in a moment.", 503, 5
            )
