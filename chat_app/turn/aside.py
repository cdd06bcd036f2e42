"""Long work on what somebody sent, beside the event loop.

It has one thread of its own: two would only fight for the interpreter's lock, and the threads that files, names and
passwords wait for stay free. What runs here is bounded by its callers.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long input")


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises; others go on meanwhile. Whoever is cancelled before its turn has it left out."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)
