"""What a plan leaves of the month, in one query: said with every response of the API, so it is on the hot path."""

from dataclasses import dataclass

from chat_app.billing.ledger import next_period_ms, period_of
from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms

_QUERY = (
    "SELECT p.requests_per_minute, p.monthly_tokens + COALESCE(q.granted, 0) AS most,"
    " COALESCE(q.used + q.held, 0) AS taken"
    " FROM plan p LEFT JOIN quota q ON q.user_id = $2 AND q.period = $3 WHERE p.id = $1"
)


@dataclass(frozen=True, slots=True)
class Month:
    """The rate of a plan, and the month's tokens: `limit` with what was granted, `left` of it beside what running
    answers hold; both None where the plan sets no limit. `resets_s` are the seconds until the next month."""

    requests_per_minute: int
    limit: int | None
    left: int | None
    resets_s: int


async def month_of(db: Database, user_id: str, plan_id: str) -> Month | None:
    """The current month of an account on a plan; None for an unknown plan. Raises `DatabaseUnavailable`."""
    now = now_ms()
    rows = await db.query(_QUERY, plan_id, user_id, period_of(now))
    if not rows:
        return None
    rate, limit, taken = rows[0]["requests_per_minute"], rows[0]["most"], rows[0]["taken"]
    left = None if limit is None else max(0, limit - taken)
    return Month(rate, limit, left, max(0, next_period_ms(now) - now) // 1000)
