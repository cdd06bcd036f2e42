"""One loaded engine with a queue in front: a request's life from arrival to its last token, or to its cancellation.

Knows the engine's protocol and the queue's, no HTTP and no particular engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from inference.engines.base import Ability, Engine
from inference.fairqueue import FairQueue
from inference.metrics import Metrics, Stage
from inference.pacing import EACH_S, paced
from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    Embeddings,
    EngineDied,
    EngineError,
    Message,
    Request,
    Sampling,
    Tool,
    needs_tools,
)
from inference.thinking import Thinking, raw

UNASKED = 2048  # Tokens of an answer whose length nobody limited: its room is set aside while it runs.


class Service:
    """`engine` is loaded and stays so. `queue_limit`: how many requests may wait; the next one is refused with
    `Overloaded`. `died` is called when the engine seems to have gone in the middle of an answer."""

    def __init__(
        self, engine: Engine, metrics: Metrics, queue_limit: int = 256, died: Callable[[], None] = lambda: None
    ) -> None:
        self.engine = engine
        self.metrics = metrics
        self._died = died
        able = engine.capabilities
        self.queue = FairQueue(able.slots, able.kv_tokens, queue_limit)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer, cut where there is no more room; `max_tokens` 0 means that nobody said how long it may be.

        Closing the generator, or cancelling whoever waits for it, takes the job out of the queue or off its slot
        before it returns.
        """
        arrived = time.monotonic()
        self.metrics.arrived()
        stage: Stage = "queue"
        first = arrived
        finished = False
        try:
            request, prompt = await self._fitted(request)
            async with self.queue.place(request, prompt + request.sampling.max_tokens) as place:
                place.spent = prompt
                began = time.monotonic()
                self.metrics.admitted(began - arrived, self.queue.running)
                stage = "prefill"
                thinking = Thinking(request.continue_from)
                if self.engine.capabilities.parts:
                    thinking.settle()
                async with aclosing(self._chunks(request)) as chunks:
                    async for come in chunks:
                        chunk = thinking.chunk(come)
                        if chunk is None:
                            continue
                        if stage == "prefill":
                            stage, first = "decode", time.monotonic()
                            self.metrics.first_token(first - arrived, first - began)
                            if chunk.prompt_tokens is None and self.engine.capabilities.counts:
                                chunk = replace(chunk, prompt_tokens=prompt)
                        self.metrics.generated(chunk.tokens)
                        place.spent += chunk.tokens
                        if chunk.reasoning and not chunk.text:
                            self.metrics.thought(chunk.tokens)
                        if chunk.calls:
                            self.metrics.called(len(chunk.calls))
                        if chunk.usage:
                            self.metrics.read(chunk.usage)
                            place.spent -= chunk.usage.cached_tokens
                        finished = chunk.finish is not None
                        yield chunk
        except EngineError as error:
            self.metrics.ended("refused" if error.status < 500 else "failed")
            if isinstance(error, EngineDied):
                self._died()
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
        finally:
            if stage == "decode":
                self.metrics.decoded(time.monotonic() - first)
        self.metrics.ended("completed")

    def _chunks(self, request: Request) -> AsyncGenerator[Chunk, None]:
        chunks = self.engine.stream(request)
        if not request.gather_ms or self.engine.capabilities.gathers:
            return chunks
        most = request.gather_ms / 1_000
        return paced(chunks, lambda: min(EACH_S * self.queue.running, most))

    async def embed(self, texts: Sequence[str], user: str = "") -> Embeddings:
        """A vector for each text. It takes its turn and a slot like an answer, and its tokens count in its user's."""
        self._able("embeddings")
        async with self.queue.place(Request("", (), Sampling(0), user=user), 0) as place:
            embeddings = await self.engine.embed(texts)
            place.spent = embeddings.tokens
        self.metrics.embedded(embeddings.tokens)
        return embeddings

    def _able(self, *abilities: Ability) -> None:
        able = self.engine.capabilities
        if lacking := [ability for ability in abilities if ability not in able.abilities]:
            raise BadRequest(f"{able.model!r} runs on the engine {able.engine}, which has no {', '.join(lacking)}")

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        """The tokens that an engine reads for a conversation; `continue_from` is raw. Raises `BadRequest` for tools
        that it knows nothing of."""
        if needs_tools(messages, tools):
            self._able("tools")
        return await self.engine.prompt(messages, continue_from, tools)

    async def _fitted(self, request: Request) -> tuple[Request, int]:
        """The request as its engine takes it, with a `max_tokens` that fits, and how many tokens its prompt has."""
        self._able(*_needed(request.sampling))
        begun = raw(request.continue_reasoning, request.continue_from)
        request = replace(request, continue_from=begun, continue_reasoning="")
        context = self.engine.capabilities.context
        prompt = len(await self.prompt(request.messages, request.continue_from, request.tools))
        room = context - prompt
        if room < 1:
            raise ContextTooLong(f"the prompt has {prompt} tokens; this model's window is {context} with the answer")
        wanted = min(request.sampling.max_tokens or UNASKED, room)
        return replace(request, sampling=replace(request.sampling, max_tokens=wanted)), prompt

    def measure(self) -> None:
        """Sets the metrics to how it is at this moment."""
        queue, able = self.queue, self.engine.capabilities
        self.metrics.now(
            running=queue.running, waiting=queue.waiting, kv_held=queue.held, kv_tokens=able.kv_tokens, ready=True
        )

    def status(self) -> dict[str, Any]:
        """What is here, and what it does right now."""
        able = self.engine.capabilities
        return {
            "engine": able.engine,
            "quantization": able.quantization,
            "context": able.context,
            "slots": able.slots,
            "kv_tokens": able.kv_tokens,
            "kv_tokens_held": self.queue.held,
            "abilities": sorted(able.abilities),
            "running": self.queue.running,
            "waiting": self.queue.waiting,
            "retry_after": self.queue.retry_after,
        }


def _needed(sampling: Sampling) -> list[Ability]:
    needs: dict[Ability, bool] = {
        "json_schema": bool(sampling.json_schema),
        "grammar": bool(sampling.grammar),
        "logprobs": sampling.logprobs is not None,
    }
    return [ability for ability, needed in needs.items() if needed]
