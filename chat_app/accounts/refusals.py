"""Entries of the audit trail about those who did not get on with an account: their own, or another."""

from chat_app.accounts.identity import AccountError
from chat_app.data.acts import Act, Action, By, Outcome, Recorder

PER_MINUTE = 10
"""About too many attempts from one address: to be refused for that takes nothing, so it must not fill the trail."""
_REFUSED = {"too_many_attempts", "busy", "account_disabled", "signup_closed"}
"""Codes of those who were not let try, or not in; the others gave something wrong."""


async def report(audit: Recorder, action: Action, error: AccountError, by: By, account: str = "") -> None:
    """Record why somebody did not get on: with this account, or with their own."""
    if error.retry_after and not await audit.has_room(f"{action}:{by.actor or by.address}", PER_MINUTE):
        return
    outcome: Outcome = "refused" if error.code in _REFUSED else "failed"
    await audit.record(Act(action, by, "account", account or by.actor, outcome, {"code": error.code}))
