"""Requests to stop, as the writers in this process see them.

A request may come before the writer that it is meant for: the last few of those are remembered. It does not know how
a request reaches this process.
"""

import asyncio

MOST_EARLY = 1_000


class Stops:
    """An event for each generation that is written here."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._early: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._events)

    def event(self, generation: str) -> asyncio.Event:
        """Set once a stop has been requested; it is made if need be."""
        event = self._events.get(generation)
        if event is None:
            event = self._events[generation] = asyncio.Event()
            if generation in self._early:
                del self._early[generation]
                event.set()
        return event

    def request(self, generation: str) -> None:
        if generation in self._events:
            self._events[generation].set()
            return
        self._early[generation] = None
        if len(self._early) > MOST_EARLY:
            del self._early[next(iter(self._early))]

    def forget(self, generation: str) -> None:
        self._events.pop(generation, None)
