"""One model of a service's catalogue, and what it does right now: its state, its engine, who uses it. It decides
nothing; `models` does."""

import asyncio
import time
from dataclasses import replace
from typing import Any

from inference.catalog import Model
from inference.engines.base import Capabilities
from inference.metrics import Metrics
from inference.protocol import EngineError, ModelCard, State
from inference.service import Service


class Hosted:
    """`id` is its name, which a remote engine may only know once it is loaded. `service` is there while it is ready or
    draining. `users`: requests that have it or wait for it, tokenizing included. `progress`: the share of the present
    state's work that is done, where that is known."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        self.model = model
        self.id = model.id
        self.metrics = metrics
        self.state: State = "unloaded"
        self.progress = 0.0
        self.error: EngineError | None = None
        self.service: Service | None = None
        self.able: Capabilities | None = None
        """What its engine could do when it was last loaded."""
        self.users = 0
        self.used_at = time.monotonic()
        self.since = time.monotonic()
        self.work: asyncio.Task[Service] | None = None
        """It is being loaded."""
        self.lock = asyncio.Lock()
        """Of whoever loads or unloads it."""
        self.healed = 0
        """Of the times that its engine brought itself back, those that are counted."""
        self.strikes = 0
        """Health checks that failed, one after the other."""
        self.deaths = 0
        """Times that its engine died, one after the other, each soon after it was loaded."""

    def become(self, state: State, error: EngineError | None = None) -> None:
        self.state, self.error, self.progress, self.since = state, error, 0.0, time.monotonic()

    def tell(self, share: float) -> None:
        self.progress = share

    @property
    def running(self) -> int:
        return self.service.queue.running if self.service else 0

    def card(self) -> ModelCard:
        model = self.model
        card = ModelCard(
            self.id,
            model.context,
            model.engine,
            self.state in ("ready", "unloaded"),
            model.quantization,
            self.state,
            model.price_class,
            model.abilities,
        )
        if (able := self.able) is None:
            return card
        abilities = tuple(dict.fromkeys([*model.abilities, *sorted(able.abilities)]))
        return replace(card, context=able.context, quantization=able.quantization, abilities=abilities)

    def measure(self) -> None:
        """Tells the metrics how it is at this moment."""
        if self.service:
            self.service.measure()
        else:
            self.metrics.now(running=0, waiting=0, kv_held=0, kv_tokens=0, ready=False)

    def status(self) -> dict[str, Any]:
        """For people and tests: what it does right now, and the totals since the start."""
        slots = self.able.slots if self.able else 1
        return {
            "model": self.id,
            "state": self.state,
            "progress": round(self.progress, 3),
            "since_s": round(time.monotonic() - self.since, 1),
            "error": str(self.error or ""),
            "engine": self.model.engine,
            **(self.service.status() if self.service else {"running": 0, "waiting": 0, "slots": slots}),
            **self.metrics.totals(),
        }
