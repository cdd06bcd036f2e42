"""The lock on the home directory: without Redis, one process holds all state alone. Knows no other file in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HomeInUse(Exception):
    """Another process holds the home directory. The message tells a person what to do."""


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Hold `home` for as long as the block lasts, made (for its owner only) where it is missing. Raises `HomeInUse`.

    The kernel gives the lock back when the process ends, however it ends. A child process does not inherit it.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "app.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise HomeInUse(
                f"Another Parley{f' (process {holder})' if holder else ''} is using {home.resolve()}. "
                "Without Redis there is exactly one app worker per PARLEY_HOME. Stop the other one, choose another "
                "PARLEY_HOME, or set PARLEY_REDIS_URL to run several workers or replicas."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
