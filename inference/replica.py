"""One server of a fleet: what it said of itself when it was last looked at, what was sent there, how that went.

Knows our own service, which reports its load at `/status`, and servers that only answer in OpenAI's shape. It does not
know the other replicas and chooses nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from inference.breaker import Breaker, State
from inference.client import InferenceClient
from inference.protocol import Chunk, EngineDied, EngineError, ModelCard, Overloaded, Request
from inference.rendezvous import rank

LOOK_TIMEOUT_S = 1.5
REST_S = 1.0  # So long a replica that lost an answer gets new ones only if nobody else can take them.
HUNG = 2  # Looks in a row that failed, after which whoever has heard nothing since is taken away from there.
ASSUMED_SLOTS = 16  # Of a server that does not say how much it does at once.
LEAVING = frozenset({"draining", "unloading", "closing", "closed"})


def shown(url: str) -> str:
    """The address as people and figures may see it: without a password that may be in it."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


@dataclass(frozen=True, slots=True)
class Sight:
    """A replica as it was last seen. `models` are the last that it listed, also while it does not answer.

    `busy`: requests that ran or waited there, anybody's; `waiting`: those of them that waited; `sent`: ours that were
    under way at that time. All 0 for a server that reports no load, with `slots` 0.
    """

    answers: bool = False
    trouble: str = "not looked at yet"
    draining: bool = False
    models: tuple[ModelCard, ...] = ()
    slots: int = 0
    busy: int = 0
    waiting: int = 0
    sent: int = 0


@dataclass(slots=True, eq=False)
class _Errand:
    """A request under way. `reader` is the task that waits for its next chunk, None while there is one to work on."""

    reader: "asyncio.Task[Any] | None" = None
    cut: bool = False


class Replica:
    """`url` is the server's root; it is also what rendezvous hashing knows the replica by.

    `looked` is set once it was looked at, `wanted` when somebody would like to know soon how it is. For whoever
    watches the fleet: `requests` that were sent there and the `failures` among them; `retries`, sent because another
    had refused or lost them before their first token; `continuations`, answers that went on here behind their text.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self.name = shown(url)
        self.url = url
        self.client = InferenceClient(url, key)
        self.breaker = Breaker()
        self.sight = Sight()
        self.looked = asyncio.Event()
        self.wanted = asyncio.Event()
        self.requests = self.failures = self.retries = self.continuations = 0
        self.counts_tokens = True
        self._errands: set[_Errand] = set()
        self._has_health = False
        self._has_status = True
        self._missed = 0
        self._missed_since = 0.0
        self._heard_at = 0.0
        self._rests_until = 0.0

    @property
    def in_flight(self) -> int:
        """Our requests that are under way there."""
        return len(self._errands)

    @property
    def breaker_state(self) -> State:
        return self.breaker.state

    @property
    def healthy(self) -> bool:
        """Whether new work may be sent there at all."""
        return self.sight.answers and not self.sight.draining

    @property
    def resting(self) -> bool:
        """Whether it has just lost or refused a request: others come first."""
        return time.monotonic() < self._rests_until

    @property
    def tells_load(self) -> bool:
        """Whether it is a service of ours, which says how much it has to do and can go on with an answer."""
        return self.sight.slots > 0

    @property
    def slots(self) -> int:
        """Requests that it runs at once, as it says or as is assumed."""
        return self.sight.slots or ASSUMED_SLOTS

    @property
    def load(self) -> float:
        """What it has to do as a share of its slots: as it was seen, and what was sent and has ended since."""
        return max(self.in_flight, self.sight.busy + self.in_flight - self.sight.sent) / self.slots

    @property
    def saturated(self) -> bool:
        """Whether one more request would wait."""
        return self.sight.waiting > 0 or self.load >= 1

    def rank(self, key: str) -> float:
        """Its place in the order of preference of this key, by rendezvous hashing; more slots are more keys."""
        return rank(key, self.url, self.slots)

    def card(self, model: str) -> ModelCard | None:
        """The model as it lists it. The empty name is any model."""
        return next((card for card in self.sight.models if model in ("", card.id)), None)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """As `InferenceClient.stream`, with an eye on how it goes."""
        errand = _Errand()
        self._errands.add(errand)
        self.requests += 1
        self.breaker.sent()
        flowed = False
        try:
            async with aclosing(self.client.stream(request)) as chunks:
                errand.reader = asyncio.current_task()
                async for chunk in chunks:
                    errand.reader = None
                    self._heard_at = time.monotonic()
                    if not flowed:
                        flowed = True
                        self.breaker.flows()
                        self.continuations += bool(request.continue_from or request.continue_reasoning)
                    if chunk.finish:
                        self.breaker.succeeded()
                    yield chunk
                    errand.reader = asyncio.current_task()
        except EngineDied:
            self._lost()
            raise
        except Overloaded as error:
            self._rest(error.retry_after)
            raise
        except asyncio.CancelledError:
            if not (errand.cut and errand.reader is not None and errand.reader.uncancel() == 0):
                raise
            self._lost()
            raise EngineDied(f"{self.name} has fallen silent") from None
        finally:
            self._errands.discard(errand)
            self.breaker.unknown()

    async def look(self) -> None:
        """See how it is. Never raises; takes at most `LOOK_TIMEOUT_S`."""
        began, sent = time.monotonic(), self.in_flight
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                listed = await self.client.models()
                well = await self.client.health()
                status = await self._status()
        except (EngineError, TimeoutError) as error:
            self._miss(began, str(error) or "no answer in time")
            return
        finally:
            self.looked.set()
        self._has_health |= well
        if self._has_health and not well:  # Who has no /health is well if it lists its models.
            self._miss(began, "not well, as it says itself")
            return
        self._missed = 0
        self.sight = Sight(
            answers=True,
            trouble="",
            # Ours reports the state of its first model, but goes on with the others.
            draining=str(status.get("state")) in LEAVING and not any(card.state and card.ready for card in listed),
            models=tuple(listed),
            slots=_number(status, "slots"),
            busy=_number(status, "running") + _number(status, "waiting"),
            waiting=_number(status, "waiting"),
            sent=sent,
        )

    @property
    def hangs(self) -> bool:
        """Whether it has answered neither the last looks nor anybody who waits for a chunk from it meanwhile."""
        return self._missed >= HUNG and self._heard_at < self._missed_since

    def cut(self) -> None:
        """End what waits there, as if the connection had broken."""
        for errand in self._errands:
            if errand.reader is not None and not errand.cut:
                errand.cut = errand.reader.cancel()

    async def _status(self) -> dict[str, Any]:
        """What our own service says of its load; nothing of a server that has no such thing."""
        if not self._has_status:
            return {}
        try:
            status = await self.client.ask("GET", "/status")
        except (EngineDied, Overloaded):
            raise
        except EngineError:
            status = {}
        self._has_status = "running" in status
        return status if self._has_status else {}

    def _miss(self, began: float, trouble: str) -> None:
        if self._missed == 0:
            self._missed_since = began
        self._missed += 1
        if self._missed < HUNG:
            self.wanted.set()
        self._has_status = True  # Whatever comes back there may be something else.
        self.counts_tokens = True
        self.sight = replace(self.sight, answers=False, trouble=trouble)

    def _lost(self) -> None:
        self.failures += 1
        self.breaker.failed()
        self._rest(REST_S)
        self.wanted.set()

    def _rest(self, seconds: float) -> None:
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)


def _number(status: dict[str, Any], name: str) -> int:
    value = status.get(name)
    return value if isinstance(value, int) and value > 0 else 0
