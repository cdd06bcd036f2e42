"""Looks after the secrets of keys that something in this process runs with, and says when one is in force no more.

Whoever ends a key, or replaces its secret, does so in the database, which every replica and the command line share; it
is asked a few times a second for the secrets that are in use, and not at all while none is. It does not know what runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

import structlog

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import DatabaseUnavailable

logger = structlog.get_logger(__name__)

LOOK_S = 0.4
"""Pause between two looks: what an ended key runs ends within a second."""
AT_ONCE = 500
"""Secrets in one look."""


class KeyWatch:
    """`in_force` returns those of some secrets that are."""

    def __init__(self, in_force: Callable[[Collection[str]], Awaitable[set[str]]]) -> None:
        self._in_force = in_force
        self._watched: dict[str, set[Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="key watch")

    async def close(self) -> None:
        task, self._task = self._task, None
        await cancelled(task)

    @contextmanager
    def watching(self, secret: str, ended: Callable[[], None]) -> Iterator[None]:
        """Calls `ended`, once, as soon as the secret is seen to be in force no more, while the block lasts."""
        watchers = self._watched.setdefault(secret, set())
        watchers.add(ended)
        try:
            yield
        finally:
            watchers.discard(ended)
            if not watchers and self._watched.get(secret) is watchers:
                del self._watched[secret]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except DatabaseUnavailable as error:
                logger.warning("keys could not be looked after", error=str(error))
            except Exception:
                logger.exception("keys could not be looked after")

    async def _look(self) -> None:
        watched = list(self._watched)
        for first in range(0, len(watched), AT_ONCE):
            some = watched[first : first + AT_ONCE]
            for secret in set(some) - await self._in_force(some):
                for ended in self._watched.pop(secret, ()):
                    ended()
