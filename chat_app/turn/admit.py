"""1. Admission: within the tier's rate and its number of answers at a time?

Whoever is admitted has a place among the person's running answers until the turn ends. The place belongs to the
generation, not to its owner: who takes it over occupies the same one, who loses it leaves it alone, and the heartbeat
of the process renews the places of all that run or are being prepared there. A place that is gone is taken again only
while the answer is active by the database: whoever slept may think that it runs, and nobody would free its place.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from chat_app.accounts.grant import Grant
from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Ledger, period_of
from chat_app.billing.plans import Terms
from chat_app.data.ids import new_id, now_ms
from chat_app.data.limits.base import Limits, LimitsUnavailable
from chat_app.sessions.generations import ENDED, GenerationRow, Generations
from chat_app.turn.ask import Ask, TurnError

REFUSALS, REFUSALS_AT_ONCE = 1, 60
"""Messages a minute of one person's that the check may refuse, and how many may come at once: each is stored, though it
costs nothing."""
PLACE_TTL_MS = 60_000
"""After so long without a heartbeat a place frees itself: whoever had it and all who could take it over are dead."""


class Place:
    """What whoever was admitted has: the row of the turn to come, and the plan that let it in.

    `async with place` leaves it at the end, unless a turn has `begun` in it, which then does that itself.
    """

    def __init__(self, admission: "Admission", row: GenerationRow, terms: Terms) -> None:
        self._admission = admission
        self.row = row
        self.terms = terms
        self.begun = False

    def row_of(self, ask: Ask) -> GenerationRow:
        """The row of the turn that begins in it now: what it wants may have taken a while to come."""
        row = self.row
        row.created_at = now_ms()
        row.period = period_of(row.created_at)
        if ask.exchange is not None:
            row.thread_id, row.message_id = ask.exchange.thread_id, ask.exchange.answer_id
        return row

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.begun:
            await asyncio.shield(self._admission.leave(self.row))


def new_row(identity: Identity, source: str, terms: Terms, owner: str) -> GenerationRow:
    """The row of a turn to come, of which nothing is known but whose it will be."""
    now = now_ms()
    return GenerationRow(
        id=new_id(),
        tenant_id=identity.tenant_id,
        user_id=identity.user_id,
        plan_id=terms.id,
        period=period_of(now),
        created_at=now,
        source=source,
        owner=owner,
    )


class Admission:
    """Rates and places of all people."""

    def __init__(self, limits: Limits, generations: Generations, ledger: Ledger) -> None:
        self._limits = limits
        self._ledger = ledger
        self._generations = generations

    async def enter(self, row: GenerationRow, terms: Terms) -> None:
        """Take a place. Raises `TurnError` with what the plan allows, and when to try again; `LimitsUnavailable`."""
        wait_ms = await self._limits.hit(f"turns:{row.user_id}", terms.requests_per_minute)
        if wait_ms:
            allowed = _counted(terms.requests_per_minute, "message")
            raise _too_fast(f"Your plan ({terms.name}) allows {allowed} a minute.", wait_ms)
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

    async def count_key(self, row: GenerationRow, grant: Grant) -> None:
        """The row is of this key, if that is within its own rate and tokens. Raises `TurnError`, `LimitsUnavailable`,
        `DatabaseUnavailable`."""
        rights, row.api_key_id = grant.rights, grant.key_id
        if (rate := rights.requests_per_minute) is not None:
            wait_ms = await self._limits.hit(f"key:{grant.key_id}", rate)
            if wait_ms:
                raise _too_fast(f"This key allows {_counted(rate, 'call')} a minute.", wait_ms)
        most = rights.monthly_tokens
        if most is not None and await self._ledger.tokens_of_key(grant.key_id, row.period) >= most:
            raise TurnError(
                "quota_exceeded",
                f"This month's {most:,} tokens of this key are used up. They are renewed on the first of the month.",
                429,
            )

    async def count_refusal(self, row: GenerationRow) -> None:
        """The check refused what this row's person asks. Raises `TurnError` once that happens too often, then nothing
        of it is kept; `LimitsUnavailable`."""
        wait_ms = await self._limits.hit(f"refused:{row.user_id}", REFUSALS, REFUSALS_AT_ONCE)
        if wait_ms:
            raise _too_fast("Too many of your messages were refused.", wait_ms)

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


def _too_fast(why: str, wait_ms: int) -> TurnError:
    return TurnError("rate_limited", f"{why} Try again in {-(-wait_ms // 1000)} s.", 429, wait_ms / 1000)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s'[: number != 1]}"


def _places(row: GenerationRow) -> str:
    return f"streams:{row.user_id}"
