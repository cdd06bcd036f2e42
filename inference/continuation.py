"""A client whose streams survive the engine: when it dies in mid-answer, the answer goes on from the text so far.

Wraps an `InferenceClient`, or a `Pool` of them, which then finds another replica. What was yielded stands; nothing is
yielded twice. It does not restart engines: it waits until one answers.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from inference.protocol import Chunk, EngineDied, Message, ModelCard, Overloaded, QueuePosition, Request, Tool, Usage

COUNT_PATIENCE_S = 20.0  # Shorter than for an answer: a person waits.
LONGEST_PAUSE_S = 0.2  # By so much at most a resume takes longer than the engine's return.
LEAST_REST_S = 0.1  # However soon a busy engine lets itself be asked again: it answers that at once.


class Client(Protocol):
    """What is made steady here: `inference.client.InferenceClient` or `inference.pool.Pool`."""

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]: ...

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int: ...

    async def models(self) -> list[ModelCard]: ...

    async def queue_positions(self) -> dict[str, QueuePosition]: ...


class SteadyClient:
    """`patience` is how many seconds without any progress an engine that is gone or busy is waited for."""

    def __init__(self, client: Client, patience: float = 60.0) -> None:
        self._client = client
        self._patience = patience

    async def stream(
        self, request: Request, patience: Callable[[], float | None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """The answer, however many engines it takes. Raises what the client raises once patience is at an end.

        `patience` is asked at each failure, and returns the seconds for this request; None stands for the usual ones.
        A tool's call that was cut off is asked for again. The last chunk's usage is of the whole answer from
        `request.continue_from` on: its `completion_tokens` count what was yielded here, its `prompt_tokens` what the
        first engine read, where that said so.
        """
        reasoning, text = request.continue_reasoning, request.continue_from
        tokens, died = 0, False
        read: int | None = None
        progressed_at, pause = time.monotonic(), 0.0
        while True:
            left = request.sampling.max_tokens - tokens
            if died and left <= 0:  # It died between its last token and its word that this was the last.
                yield Chunk("", 0, "length", None if read is None else Usage(read, tokens))
                return
            sampling = replace(request.sampling, max_tokens=left)
            part = replace(request, continue_reasoning=reasoning, continue_from=text, sampling=sampling)
            try:
                async with aclosing(self._client.stream(part)) as chunks:
                    async for chunk in chunks:
                        reasoning += chunk.reasoning
                        text += chunk.text
                        tokens += chunk.tokens
                        progressed_at, pause = time.monotonic(), 0.0
                        if not died:
                            read = chunk.prompt_tokens if read is None else read
                        else:
                            usage = chunk.usage and _whole(chunk.usage, tokens, read)
                            chunk = replace(chunk, usage=usage, prompt_tokens=None)
                        yield chunk
                        if chunk.finish:
                            return
            except EngineDied:
                died = died or tokens > 0
                if time.monotonic() - progressed_at > self._seconds(patience):
                    raise
                await asyncio.sleep(pause)  # None before the first try: another replica may be there already.
                pause = min(pause * 2 or 0.05, LONGEST_PAUSE_S)
            except Overloaded as error:
                left_s = self._seconds(patience) - (time.monotonic() - progressed_at)
                if left_s < 0:
                    raise
                pause = min(max(pause * 2, LEAST_REST_S), LONGEST_PAUSE_S)
                await asyncio.sleep(min(max(error.retry_after, pause), left_s + 0.01))

    async def count(
        self,
        model: str,
        messages: Sequence[Message],
        continue_from: str = "",
        tools: Sequence[Tool] = (),
        patience: float | None = None,
    ) -> int:
        """As the client's, but waits for an engine that is just being started: `patience` seconds, 20 by default."""
        try:
            return await self._client.count(model, messages, continue_from, tools)
        except (EngineDied, Overloaded):
            # Only now: what repeats it costs more than most counts.
            seconds = COUNT_PATIENCE_S if patience is None else patience
            return await self._once_there(seconds)(self._client.count, model, messages, continue_from, tools)

    async def models(self) -> list[ModelCard]:
        """As the client's, with the same patience as `count`."""
        return await self._once_there(COUNT_PATIENCE_S)(self._client.models)

    async def queue_positions(self) -> dict[str, QueuePosition]:
        """As the client's."""
        return await self._client.queue_positions()

    def _once_there(self, patience: float) -> AsyncRetrying:
        """Repeats a question to an engine that is gone or busy, and raises its last error after so many seconds."""
        return AsyncRetrying(
            retry=retry_if_exception_type((EngineDied, Overloaded)),
            stop=stop_after_delay(min(self._patience, patience)),
            wait=wait_fixed(0.1),
            reraise=True,
        )

    def _seconds(self, patience: Callable[[], float | None] | None) -> float:
        asked = patience() if patience is not None else None
        return self._patience if asked is None else asked


def _whole(usage: Usage, tokens: int, read: int | None) -> Usage:
    """The usage of a continued answer: what the last engine read holds the text so far, which is no prompt."""
    prompt = usage.prompt_tokens if read is None else read
    return Usage(prompt, tokens, min(usage.cached_tokens, prompt))
