"""Entries of the audit trail about those who did not get on with an account: their own, or another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat_app.accounts.identity import AccountError
from chat_app.data.acts import Act, Action, By, Outcome, Recorder

PER_MINUTE = 10
"""From one address about people who are not signed in, and about too many attempts of anybody: what takes nothing must
not fill a trail that nothing can be removed from."""
_REFUSED = {"too_many_attempts", "busy", "account_disabled", "signup_closed"}
"""Codes of those who were not let try, or not in; the others gave something wrong."""


async def report(audit: Recorder, action: Action, error: AccountError, by: By, account: str = "") -> None:
    """Record why somebody did not get on: with this account, or with their own."""
    if (error.retry_after or not by.actor) and not await audit.has_room(
        f"{action}:{by.actor or by.address}", PER_MINUTE
    ):
        return
    outcome: Outcome = "refused" if error.code in _REFUSED else "failed"
    await audit.record(Act(action, by, "account", account or by.actor, outcome, {"code": error.code}))


@asynccontextmanager
async def reported(audit: Recorder, action: Action, user_id: str, address: str) -> AsyncIterator[None]:
    """Record why somebody did not get on with their own account in this block."""
    try:
        yield
    except AccountError as error:
        await report(audit, action, error, By(user_id, address))
        raise
