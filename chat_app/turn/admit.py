"""1. Admission: within the tier's rate and its number of answers at a time?

Whoever is admitted has a place among the person's running answers until the turn ends. The place belongs to the
generation, not to its owner: who takes it over occupies the same one, who loses it leaves it alone, and the heartbeat
of the process renews the places of all that run or are being prepared there. A place that is gone is taken again only
while the answer is active by the database: whoever slept may think that it runs, and nobody would free its place.
"""

from collections.abc import Sequence
from contextlib import suppress

from chat_app.billing.plans import Terms
from chat_app.data.limits.base import Limits, LimitsUnavailable
from chat_app.sessions.generations import ENDED, GenerationRow, Generations
from chat_app.turn.ask import TurnError

PLACE_TTL_MS = 60_000
"""After so long without a heartbeat a place frees itself: whoever had it and all who could take it over are dead."""


class Admission:
    """Rates and places of all people."""

    def __init__(self, limits: Limits, generations: Generations) -> None:
        self._limits = limits
        self._generations = generations

    async def enter(self, row: GenerationRow, terms: Terms) -> None:
        """Take a place. Raises `TurnError` with what the plan allows, and when to try again; `LimitsUnavailable`."""
        wait_ms = await self._limits.hit(f"turns:{row.user_id}", terms.requests_per_minute)
        if wait_ms:
            raise TurnError(
                "rate_limited",
                f"Your plan ({terms.name}) allows {_counted(terms.requests_per_minute, 'message')} a minute."
                f" Try again in {-(-wait_ms // 1000)} s.",
                429,
                wait_ms / 1000,
            )
        most = terms.concurrent_streams
        try:
            entered = await self._limits.enter(_places(row), row.id, most, PLACE_TTL_MS)
        except BaseException:  # It may have been taken all the same.
            await self.leave(row)
            raise
        if not entered:
            raise TurnError(
                "too_many_streams",
                f"Your plan ({terms.name}) allows {_counted(most, 'answer')} at a time."
                " Wait for one to finish, or stop it.",
                429,
                2,
            )

    async def occupy(self, rows: Sequence[GenerationRow]) -> None:
        """Renew the places of these generations, and take those again that are gone, of generations that are active.
        Raises `DatabaseUnavailable`."""
        with suppress(LimitsUnavailable):  # A place lasts longer than the time to the next heartbeat.
            kept = await self._limits.renew([(_places(row), row.id) for row in rows], PLACE_TTL_MS)
            for row in rows:
                if (_places(row), row.id) not in kept and await self._active(row):
                    await self._limits.enter(_places(row), row.id, None, PLACE_TTL_MS)
                    if not await self._active(row):  # It ended meanwhile, and may have left before this entered.
                        await self._limits.leave(_places(row), row.id)

    async def leave(self, row: GenerationRow) -> None:
        """The turn has ended, or came to nothing."""
        with suppress(LimitsUnavailable):  # Its place frees itself in time.
            await self._limits.leave(_places(row), row.id)

    async def _active(self, row: GenerationRow) -> bool:
        status = await self._generations.status(row.id)
        return status is not None and status not in ENDED


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s'[: number != 1]}"


def _places(row: GenerationRow) -> str:
    return f"streams:{row.user_id}"
