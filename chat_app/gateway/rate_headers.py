"""What a program learns of its plan with every answer, as far as it is true: nothing is estimated."""

from chat_app.accounts.identity import Identity
from chat_app.billing.month import month_of
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
        month = await month_of(parley.db, identity.user_id, identity.plan_id)
    except STORAGE:
        return ()
    if month is None:
        return ()
    requests = (b"x-ratelimit-limit-requests", b"%d" % month.requests_per_minute)
    if month.limit is None or month.left is None:
        return (requests,)
    return (
        requests,
        (b"x-ratelimit-limit-tokens", b"%d" % month.limit),
        (b"x-ratelimit-remaining-tokens", b"%d" % month.left),
        (b"x-ratelimit-reset-tokens", b"%ds" % month.resets_s),
    )
