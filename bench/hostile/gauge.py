"""What a part does to the server, as the server itself and its machine say: the loop's delay, and memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil

from tests.app import RunningApp

LOOK_S = 0.1
_BUCKET = re.compile(r'parley_loop_delay_seconds_bucket\{le="([^"]+)"\} (\S+)')
BEYOND_MS = 20_000.0
"""Stands for delays above the last edge of the figure's buckets."""
_MB = 1e6


class Gauge:
    """Looks at one running Parley; the engine's processes are left out."""

    def __init__(self, app: RunningApp) -> None:
        self._app = app
        self.peak_mb = 0.0
        """The most that its processes held since this was last set to 0."""

    async def delays(self) -> dict[float, float]:
        """How often the loop was delayed by at most so many milliseconds, since the start."""
        found = _BUCKET.findall(await asyncio.to_thread(self._app.metrics))
        if not any(float(count) for _, count in found):
            raise RuntimeError("the server says nothing of its loop's delay")
        return {BEYOND_MS if edge == "+Inf" else float(edge) * 1_000: float(count) for edge, count in found}

    def rss_mb(self) -> float:
        """Resident memory of server and worker now, in megabytes."""
        total = 0
        engines = {process.pid for process in self._app.engines()}
        # Asked for each time: a worker that died and was replaced counts with what the new one holds.
        for process in self._app.processes():
            with suppress(psutil.NoSuchProcess):
                total += 0 if process.pid in engines else process.memory_info().rss
        return total / _MB

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep `peak_mb` for as long as the block lasts."""

        async def look() -> None:
            while True:
                self.peak_mb = max(self.peak_mb, self.rss_mb())
                await asyncio.sleep(LOOK_S)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()


def longest(before: dict[float, float], after: dict[float, float]) -> float:
    """The longest delay between two looks, in milliseconds: the upper edge of its bucket, so no less than it was."""
    below = 0.0
    most = 0.0
    for edge in sorted(after):
        new = after[edge] - before.get(edge, 0.0)
        if new > below:
            most = edge
        below = new
    return most
