"""The ledger: tokens are held before a turn runs and settled once after it, in integers, append-only.

`quota` is the running sum that admission looks at; `ledger` is the record it can be rebuilt from. It answers
statements and the turn commits them together with its own, so money and job can never disagree. It does not
know why a turn ends, nor what a token is: the engine counts.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import new_id, now_ms
from chat_app.data.tables.billing import Price

OVER_QUOTA = "quota"
"""Name of the unmet condition when a hold does not fit the month's allowance."""

ALREADY_SETTLED = "settled"
"""Name of the unmet condition when a generation is settled a second time."""


def period_of(at_ms: int) -> str:
    """The month that a moment belongs to, `YYYY-MM` in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")


def next_period_ms(at_ms: int) -> int:
    """When the month after that moment begins, in milliseconds."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Allowance:
    """An account's month in tokens. `limit` is None where the plan sets none."""

    limit: int | None
    used: int
    held: int
    period: str
    resets_at: int

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is, and for which generation."""

    tenant_id: str
    user_id: str
    generation_id: str
    period: str


def cost_micro(price: Price | None, prompt_tokens: int, completion_tokens: int) -> int:
    """Price of a turn in micro-units, rounded half up; 0 for a model without a price."""
    if price is None:
        return 0
    millionths = prompt_tokens * price.prompt_micro + completion_tokens * price.completion_micro
    return (millionths + 500_000) // 1_000_000


class Ledger:
    """Holds and settlements over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def allowance(self, user_id: str, limit: int | None) -> Allowance:
        """The current month of one account under its plan's monthly limit."""
        now = now_ms()
        period = period_of(now)
        rows = await self._db.query("SELECT used, held FROM quota WHERE user_id = $1 AND period = $2", user_id, period)
        used, held = (rows[0]["used"], rows[0]["held"]) if rows else (0, 0)
        return Allowance(limit, used, held, period, next_period_ms(now))

    async def price(self, model: str) -> Price | None:
        """What the model costs, or None if nobody set a price."""
        rows = await self._db.query("SELECT model, prompt_micro, completion_micro FROM price WHERE model = $1", model)
        return Price(**dict(rows[0])) if rows else None

    def hold(self, account: Account, tokens: int, limit: int | None) -> list[Statement]:
        """Reserve `tokens` if used + held + tokens stays within `limit`; else the batch is unmet with OVER_QUOTA."""
        fits = "" if limit is None else " AND used + held + $3 <= $4"
        params: tuple[str | int, ...] = (account.user_id, account.period, tokens)
        return [
            Statement(
                "INSERT INTO quota (user_id, period, used, held) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING",
                (account.user_id, account.period),
            ),
            Statement(
                f"UPDATE quota SET held = held + $3 WHERE user_id = $1 AND period = $2{fits}",
                params if limit is None else (*params, limit),
                must=OVER_QUOTA,
            ),
            _entry(account, "hold", tokens, 0),
        ]

    def settle(self, account: Account, held: int, tokens: int, cost: int) -> list[Statement]:
        """Replace the hold by what was really used. A second settlement of the same generation is unmet."""
        entry = _entry(account, "settle", tokens, cost)
        return [
            Statement(
                f"{entry.sql} ON CONFLICT (generation_id, kind) DO NOTHING",
                entry.params,
                must=ALREADY_SETTLED,
            ),
            Statement(
                "UPDATE quota SET used = used + $3, held = held - $4 WHERE user_id = $1 AND period = $2",
                (account.user_id, account.period, tokens, held),
            ),
        ]


def _entry(account: Account, kind: str, tokens: int, cost: int) -> Statement:
    return Statement(
        "INSERT INTO ledger (id, tenant_id, user_id, generation_id, kind, period, tokens, cost_micro, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        (
            new_id(),
            account.tenant_id,
            account.user_id,
            account.generation_id,
            kind,
            account.period,
            tokens,
            cost,
            now_ms(),
        ),
    )
