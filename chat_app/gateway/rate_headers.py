"""What a program learns of its plan with every answer, as far as it is true: nothing is estimated."""

from chat_app.data.ids import now_ms
from chat_app.gateway.connection import Pairs
from chat_app.turn import Started


def rate_headers(started: Started) -> Pairs:
    """Requests a minute; of the month's tokens the limit, what running answers, this one too, leave of it, and seconds
    until it is renewed. Empty where a lost acknowledgement has left it unknown."""
    terms, month = started.terms, started.allowance
    if terms is None:
        return ()
    requests = (b"x-ratelimit-limit-requests", b"%d" % terms.requests_per_minute)
    if month is None or month.limit is None or month.left is None:
        return (requests,)
    return (
        requests,
        (b"x-ratelimit-limit-tokens", b"%d" % month.limit),
        (b"x-ratelimit-remaining-tokens", b"%d" % month.left),
        (b"x-ratelimit-reset-tokens", b"%ds" % (max(0, month.resets_at - now_ms()) // 1000)),
    )
