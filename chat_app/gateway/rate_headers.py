"""What a program is told about its plan with every answer, as far as it is true: nothing is estimated."""

from chat_app.accounts.identity import Identity
from chat_app.data.ids import now_ms
from chat_app.gateway.connection import Pairs
from chat_app.gateway.errors import STORAGE
from chat_app.wiring import Parley


async def rate_headers(parley: Parley, identity: Identity) -> Pairs:
    """Requests a minute; of the month's tokens the limit, what running answers leave of it, seconds until
    reset.

    Asked after the turn has begun, in the shadow of the engine's first token. Empty if the storage fails just
    now.
    """
    try:
        terms = await parley.plans.terms(identity.plan_id)
        headers = {"x-ratelimit-limit-requests": f"{terms.requests_per_minute}"}
        if terms.monthly_tokens is not None:
            month = await parley.ledger.allowance(identity.user_id, terms.monthly_tokens)
            headers["x-ratelimit-limit-tokens"] = f"{month.limit}"
            headers["x-ratelimit-remaining-tokens"] = f"{month.left}"
            headers["x-ratelimit-reset-tokens"] = f"{max(0, month.resets_at - now_ms()) // 1000}s"
        return tuple((name.encode(), value.encode()) for name, value in headers.items())
    except STORAGE:
        return ()
