"""What holds the event loop is seen in the figures of its process."""

import asyncio
import time

from chat_app.telemetry.loop_delay import LOOK_S, watched_loop
from chat_app.telemetry.metrics import REGISTRY
from chat_app.wiring import Parley

NAME = "parley_loop_delay_seconds"


def longer_than(seconds: float) -> float:
    """How often the loop came back so much too late; `seconds` is the edge of a bucket."""
    looks, below = (REGISTRY.get_sample_value(f"{NAME}_{kind}", labels) for kind, labels in _samples(seconds))
    return (looks or 0) - (below or 0)


def _samples(seconds: float) -> list[tuple[str, dict[str, str]]]:
    return [("count", {}), ("bucket", {"le": str(seconds)})]


async def test_work_on_the_loop_is_a_delay_of_its_length() -> None:
    async with watched_loop():
        await asyncio.sleep(0)  # It has begun its first look.
        before = longer_than(0.3)
        time.sleep(0.3 + 2 * LOOK_S)
        await asyncio.sleep(LOOK_S)
        assert longer_than(0.3) > before


async def test_it_ends_with_its_block() -> None:
    async with watched_loop():
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert names - {task.get_name() for task in asyncio.all_tasks()} == {"loop-delay"}


async def test_a_running_parley_is_watched(parley: Parley) -> None:
    def looks() -> float:
        return REGISTRY.get_sample_value(f"{NAME}_count") or 0

    before = looks()
    async with asyncio.timeout(20):
        while looks() == before:
            await asyncio.sleep(LOOK_S)
