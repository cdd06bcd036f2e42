"""A circuit breaker: what fails again and again is left alone for a while, then tried with one request at a time.

Pure apart from its clock and its dice, which are given. Knows nothing of what it guards.
"""

import random
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]

FAILURES = 3  # In a row, after which it opens.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
JITTER = 0.25  # So that many clients of one server do not come back to it in the same moment.


class Breaker:
    """Closed at first. `clock` returns seconds that only grow, `dice` a number from 0 to 1."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, dice: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._dice = dice
        self._failures = 0
        self._opened = 0  # Times in a row, each of which doubles the pause.
        self._until: float | None = None
        self._trying = False

    @property
    def state(self) -> State:
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    @property
    def admits(self) -> bool:
        """Whether a request may be sent now: half-open it takes one, and the next when that one's outcome is known."""
        return self._until is None or (self.state == "half_open" and not self._trying)

    def sent(self) -> None:
        """A request goes out; one of the calls below follows."""
        self._trying = self._until is not None

    def flows(self) -> None:
        """It brought something: closed, but the next failure opens it again unless one succeeds to its end before."""
        if self._until is not None:
            self._until, self._trying, self._failures = None, False, FAILURES - 1

    def succeeded(self) -> None:
        self.flows()
        self._failures = self._opened = 0

    def failed(self) -> None:
        self._trying = False
        self._failures += 1
        if self._failures >= FAILURES and self.state != "open":
            pause = min(FIRST_PAUSE_S * 2 ** min(self._opened, 10), LONGEST_PAUSE_S)
            self._until = self._clock() + pause * (1 + JITTER * (2 * self._dice() - 1))
            self._opened += 1

    def unknown(self) -> None:
        """It ended in a way that says nothing: whoever asked has gone, or was refused for want of room."""
        self._trying = False
