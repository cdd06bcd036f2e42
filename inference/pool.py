"""A client of several servers at once: offers what `InferenceClient` does, and chooses for each request who answers it.

A thread goes to the replica that has its conversation in the prefix cache, for as long as there is room; what is
refused or lost before its first token goes to another. An answer that breaks off later is `SteadyClient`'s to go on
with; here it then reaches another replica. Starts no servers and keeps no text.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    EngineDied,
    EngineError,
    Message,
    ModelCard,
    ModelNotFound,
    Overloaded,
    QueuePosition,
    Request,
    Tool,
)
from inference.replica import LOOK_TIMEOUT_S, Replica

LOOK_S = 1.0  # Between two looks at a replica, more or less.
SOONEST_S = 0.1  # The same when somebody waits for it to come back.
COUNT_S = 3.0  # After which another replica is asked to count.


class Pool:
    """`urls` are the servers' roots; `keys` one for all of them, or one for each.

    Looks at them all the time from `start`, or the first call, to `close`. One instance serves a whole process.
    Raises only `EngineError`s.
    """

    def __init__(self, urls: Sequence[str], keys: Sequence[str] = ("",)) -> None:
        if not urls or len(keys) not in (1, len(urls)):
            raise ValueError(f"{len(keys)} keys for {len(urls)} addresses")
        each = list(keys) * len(urls) if len(keys) == 1 else keys
        self.replicas = tuple(Replica(url, key) for url, key in zip(urls, each, strict=True))
        self._watches: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look at the replicas."""
        if not self._watches:
            self._watches = [asyncio.create_task(self._watch(replica)) for replica in self.replicas]

    async def close(self) -> None:
        """Drops all connections; running streams end with `EngineDied`."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches = []
        for one in self.replicas:
            one.cut()
            await one.client.close()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer from whichever replica can give it; see `InferenceClient.stream`.

        Until its first chunk it is tried at one replica after another. If all refuse, `Overloaded` has the shortest
        of their waits.
        """
        await self._looked()
        troubles: list[EngineError] = []
        for replica in self._order(request):
            replica.retries += bool(troubles)
            begun = False
            try:
                async with aclosing(replica.stream(request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except (BadRequest, ContextTooLong):
                raise
            except EngineError as error:
                if begun or not self._watches:  # Closed meanwhile.
                    raise
                troubles.append(error)
        raise _worst(troubles)

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int:
        """As `InferenceClient.count`, by whichever replica can count."""
        await self._looked()
        troubles: list[EngineError] = []
        able = self._able(model)
        for replica in sorted(able, key=lambda one: (not one.counts_tokens, one.resting, one.load)):
            try:
                async with asyncio.timeout(COUNT_S if len(able) > 1 else None):
                    return await replica.client.count(model, messages, continue_from, tools)
            except (BadRequest, ContextTooLong):
                raise
            except TimeoutError:
                troubles.append(EngineDied(f"{replica.name} does not answer"))
            except EngineError as error:
                replica.counts_tokens &= error.retryable or isinstance(error, ModelNotFound)
                troubles.append(error)
        raise _worst(troubles)

    async def models(self) -> list[ModelCard]:
        """Every model that some replica lists, as of the last look; ready if it is ready somewhere.

        Its window is the smallest of those where it is ready. Raises `EngineDied` if no replica answers.
        """
        await self._looked()
        if not any(replica.healthy for replica in self.replicas):
            raise self._nobody("no replica answers")
        cards: dict[str, ModelCard] = {}
        for replica in self.replicas:
            for card in replica.sight.models:
                here = replace(card, ready=card.ready and replica.healthy)
                known = cards.get(card.id)
                cards[card.id] = here if known is None else _both(known, here)
        return list(cards.values())

    async def queue_positions(self) -> dict[str, QueuePosition]:
        """Every request that waits for its turn somewhere, by its id."""
        asked = [replica for replica in self.replicas if replica.healthy and replica.in_flight and replica.tells_load]
        positions: dict[str, QueuePosition] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                for waiting in await asyncio.gather(*(replica.client.queue_positions() for replica in asked)):
                    positions |= waiting
        return positions

    async def health(self) -> bool:
        """Whether any replica is up and warm. Never raises."""
        await self._looked()
        return any(replica.healthy for replica in self.replicas)

    def _order(self, request: Request) -> Iterator[Replica]:
        """Who is asked, first to last, chosen anew before each try: what happened since counts."""
        key = request.affinity or request.request_id
        tried: set[Replica] = set()
        while able := [replica for replica in self._able(request.model) if replica not in tried]:
            rested = [replica for replica in able if not replica.resting] or able
            home = max(rested, key=lambda replica: replica.rank(key)) if request.affinity else None
            chosen = min(
                rested,
                key=lambda replica: (
                    # Others than our own may not go on with an answer, but begin it anew.
                    bool(request.continue_from or request.continue_reasoning) and not replica.tells_load,
                    replica.saturated or replica is not home,
                    replica.saturated,
                    replica.load,
                    -replica.rank(key),
                ),
            )
            tried.add(chosen)
            yield chosen

    def _able(self, model: str) -> list[Replica]:
        """The replicas that can be asked for this model now, at least one. Raises `EngineDied` or `ModelNotFound`."""
        there = [replica for replica in self.replicas if replica.healthy and replica.card(model)]
        if not there:
            for replica in self.replicas:
                replica.wanted.set()
            elsewhere = any(replica.card(model) for replica in self.replicas)
            if elsewhere or not all(replica.sight.answers for replica in self.replicas):
                raise self._nobody(f"no replica that has the model {model!r} answers")
            raise ModelNotFound(f"no replica has a model {model!r}")
        ready = [replica for replica in there if (card := replica.card(model)) and card.ready] or there
        # An open breaker is better than no answer at all.
        return [replica for replica in ready if replica.breaker.admits] or ready

    def _nobody(self, said: str) -> EngineDied:
        why = "; ".join(f"{one.name}: {one.sight.trouble or 'draining'}" for one in self.replicas if not one.healthy)
        return EngineDied(f"{said} ({why})" if why else said)

    async def _looked(self) -> None:
        self.start()
        for replica in self.replicas:
            if not replica.looked.is_set():
                await replica.looked.wait()

    async def _watch(self, replica: Replica) -> None:
        while True:
            await replica.look()
            if replica.hangs and any(other.healthy for other in self.replicas):
                replica.cut()
            await asyncio.sleep(SOONEST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S * random.uniform(0.8, 1.0)):  # noqa: S311
                    await replica.wanted.wait()
            replica.wanted.clear()


def _both(one: ModelCard, other: ModelCard) -> ModelCard:
    """What can be promised of a model that two replicas have."""
    if one.ready != other.ready:
        return one if one.ready else other
    return replace(one, context=min(one.context, other.context) or max(one.context, other.context))


def _worst(troubles: Sequence[EngineError]) -> EngineError:
    """The error for all that were asked: to come back where there was no room, else what the last one said."""
    refused = [error for error in troubles if isinstance(error, Overloaded)]
    return min(refused, key=lambda error: error.retry_after) if refused else troubles[-1]
