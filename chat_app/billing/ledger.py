"""The ledger: tokens and money are held before a step runs and settled once after it, in integers, append-only.

`quota` and, for each API key, `key_month` are the running sums that admission looks at; `ledger` is the record they can
be rebuilt from, together with whose key a generation is. Writes are returned
as statements, which the turn commits together with its own, so money and job can never disagree. It does not know why
a step ends, nor what a token is: the engine counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chat_app.data.db.base import Database, Row, Statement
from chat_app.data.ids import new_id, now_ms

OVER_QUOTA = "quota"
"""Name of the unmet condition when a hold does not fit the month's allowance."""

ALREADY_SETTLED = "settled"
"""Name of the unmet condition when a step is settled or released a second time."""

ALREADY_GRANTED = "granted"
"""Name of the unmet condition when a grant's reference is known already."""

NOT_CHARGED = "charged"
"""Name of the unmet condition when there is no charge to void: never settled on this account, or voided already."""


def period_of(at_ms: int) -> str:
    """The month that a moment belongs to, `YYYY-MM` in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")


def _end_ms(year: int, month: int) -> int:
    year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, and money in micro-units of the currency."""

    tokens: int = 0
    micro: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.micro + other.micro)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.micro - other.micro)


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Allowance:
    """An account's month: tokens, and beside them money in micro-units of the currency, which has no limit.

    `limit` is the plan's limit and what was granted to the account; None where the plan sets none. `resets_at` is when
    the next month begins, in milliseconds since 1970.
    """

    limit: int | None
    used: int
    held: int
    resets_at: int
    used_micro: int = 0
    held_micro: int = 0

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is, in which month, for which generation, and with which key that was asked for, if any."""

    tenant_id: str
    user_id: str
    generation_id: str
    period: str
    api_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What a model costs, in micro-units of the currency per million tokens."""

    prompt_micro: int = 0
    completion_micro: int = 0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Micro-units for so many tokens, rounded half up."""
        millionths = prompt_tokens * self.prompt_micro + completion_tokens * self.completion_micro
        return (millionths + 500_000) // 1_000_000


FREE = Rate()
"""The rate of a model that nobody set a price for."""


class Ledger:
    """Holds and settlements over one database.

    Put them last in a batch: from its statement to the commit, the row of the account's month is locked.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def allowance(self, user_id: str, limit: int | None, period: str | None = None) -> Allowance:
        """One month of an account (default: the current one) under its plan's monthly limit of tokens."""
        period = period or period_of(now_ms())
        rows = await self._db.query(
            "SELECT granted, used, held, used_micro, held_micro FROM quota WHERE user_id = $1 AND period = $2",
            user_id,
            period,
        )
        return _allowance(rows[0] if rows else dict.fromkeys(_SUMS, 0), period, limit)

    async def tokens_of_key(self, key_id: str, period: str) -> int:
        """Tokens that the answers of one key have used in a month, and that those which run hold."""
        rows = await self._db.query(
            "SELECT used + held AS tokens FROM key_month WHERE api_key_id = $1 AND period = $2", key_id, period
        )
        return int(rows[0]["tokens"]) if rows else 0

    async def rates(self, models: Iterable[str]) -> dict[str, Rate]:
        """What these models cost; those without a price are left out."""
        names = sorted(set(models))
        if not names:
            return {}
        places = ", ".join(f"${n}" for n in range(1, len(names) + 1))
        rows = await self._db.query(
            f"SELECT model, prompt_micro, completion_micro FROM price WHERE model IN ({places})", *names
        )
        return {row["model"]: Rate(row["prompt_micro"], row["completion_micro"]) for row in rows}

    def hold(self, account: Account, seq: int, amount: Amount, limit: int | None = None) -> list[Statement]:
        """Reserve `amount` for a step, if with it the month's tokens stay within this limit and the account's grants.

        Else the batch is unmet as OVER_QUOTA. A second hold for the same step raises `Conflict`. None: no limit. The
        month as it is then is among the rows that the batch returns: `allowance_in` finds it.
        """
        _check(amount)
        return [
            _entry(account, "hold", seq, amount),
            Statement(_HOLD, (account.user_id, account.period, amount.tokens, amount.micro, limit), must=OVER_QUOTA),
            *_book_key(account, held=amount.tokens),
        ]

    def settle(self, account: Account, seq: int, held: Amount, used: Amount) -> list[Statement]:
        """Replace a step's hold by what it really used. A second time the batch is unmet as ALREADY_SETTLED."""
        _check(held)
        _check(used)
        return [
            _once(account, "settle", seq, used, ALREADY_SETTLED),
            _book(account, used=used, held=NOTHING - held),
            *_book_key(account, used=used.tokens, held=-held.tokens),
        ]

    def release(self, account: Account, seq: int, held: Amount) -> list[Statement]:
        """Give a step's hold back: it used nothing."""
        return self.settle(account, seq, held, NOTHING)

    def grant(self, account: Account, amount: Amount, reference: str) -> list[Statement]:
        """Add to the account's month, beside its plan. The same reference again is unmet as ALREADY_GRANTED.

        `reference` is whatever makes the grant one and no other, among all accounts; `generation_id` is not looked at.
        """
        _check(amount)
        granted = replace(account, generation_id=reference)
        return [_once(granted, "grant", 1, amount, ALREADY_GRANTED), _book(account, granted=amount)]

    def void(self, account: Account, seq: int) -> list[Statement]:
        """Take back what a step's settlement charged to this account and month. Unmet as NOT_CHARGED a second time."""
        key = (account.generation_id, seq, account.user_id, account.period)
        statements = [
            Statement(_VOID, (*key, new_id(), account.tenant_id, now_ms()), must=NOT_CHARGED),
            Statement(_TAKE_BACK, key),
        ]
        if account.api_key_id is not None:
            of_key = (account.generation_id, seq, account.api_key_id, account.period)
            statements.append(Statement(_TAKE_BACK_KEY, of_key))
        return statements


def allowance_in(results: Iterable[Sequence[Row]], account: Account, limit: int | None) -> Allowance | None:
    """The account's month under its plan's limit, from the results of a batch with a hold; None if they have none."""
    for rows in results:
        for row in rows:
            if row.get("account") == account.user_id:
                return _allowance(row, account.period, limit)
    return None


def _allowance(month: Row, period: str, limit: int | None) -> Allowance:
    year, _, number = period.partition("-")
    return Allowance(
        limit=None if limit is None else limit + month["granted"],
        used=month["used"],
        held=month["held"],
        resets_at=_end_ms(int(year), int(number)),
        used_micro=month["used_micro"],
        held_micro=month["held_micro"],
    )


_SUMS = ("granted", "used", "held", "used_micro", "held_micro")
_ENTRY = "INSERT INTO ledger (id, tenant_id, user_id, generation_id, kind, seq, period, tokens, cost_micro, created_at)"

# $5 is the limit. A month without a row has nothing used or granted; where there is one, the row decides.
_HOLD = """
INSERT INTO quota (user_id, period, granted, used, held, granted_micro, used_micro, held_micro)
SELECT CAST($1 AS VARCHAR), CAST($2 AS VARCHAR), 0, 0, CAST($3 AS BIGINT), 0, 0, CAST($4 AS BIGINT)
WHERE EXISTS (SELECT 1 FROM quota WHERE user_id = $1 AND period = $2)
  OR CAST($3 AS BIGINT) <= COALESCE($5, $3)
ON CONFLICT (user_id, period) DO UPDATE SET
  held = quota.held + excluded.held, held_micro = quota.held_micro + excluded.held_micro
WHERE CAST($5 AS BIGINT) IS NULL OR quota.used + quota.held + excluded.held <= $5 + quota.granted
RETURNING user_id AS account, period, granted, used, held, used_micro, held_micro
"""

_BOOK = """
INSERT INTO quota (user_id, period, granted, used, held, granted_micro, used_micro, held_micro)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (user_id, period) DO UPDATE SET
  granted = quota.granted + excluded.granted, granted_micro = quota.granted_micro + excluded.granted_micro,
  used = quota.used + excluded.used, used_micro = quota.used_micro + excluded.used_micro,
  held = quota.held + excluded.held, held_micro = quota.held_micro + excluded.held_micro
"""

_VOID = f"""
{_ENTRY}
SELECT CAST($5 AS VARCHAR), CAST($6 AS VARCHAR), user_id, generation_id, 'void', seq, period, tokens, cost_micro, $7
FROM ledger
WHERE generation_id = $1 AND kind = 'settle' AND seq = $2 AND user_id = $3 AND period = $4
ON CONFLICT (generation_id, kind, seq) DO NOTHING
"""

_TAKE_BACK = """
UPDATE quota SET
  used = used - (SELECT tokens FROM ledger WHERE generation_id = $1 AND kind = 'void' AND seq = $2),
  used_micro = used_micro - (SELECT cost_micro FROM ledger WHERE generation_id = $1 AND kind = 'void' AND seq = $2)
WHERE user_id = $3 AND period = $4
"""

_BOOK_KEY = """
INSERT INTO key_month (api_key_id, period, used, held) VALUES ($1, $2, $3, $4)
ON CONFLICT (api_key_id, period) DO UPDATE SET
  used = key_month.used + excluded.used, held = key_month.held + excluded.held
"""

_TAKE_BACK_KEY = """
UPDATE key_month SET
  used = used - (SELECT tokens FROM ledger WHERE generation_id = $1 AND kind = 'void' AND seq = $2)
WHERE api_key_id = $3 AND period = $4
"""


def _entry(account: Account, kind: str, seq: int, amount: Amount) -> Statement:
    return Statement(
        f"{_ENTRY} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        (
            new_id(),
            account.tenant_id,
            account.user_id,
            account.generation_id,
            kind,
            seq,
            account.period,
            amount.tokens,
            amount.micro,
            now_ms(),
        ),
    )


def _once(account: Account, kind: str, seq: int, amount: Amount, unmet: str) -> Statement:
    entry = _entry(account, kind, seq, amount)
    return Statement(f"{entry.sql} ON CONFLICT (generation_id, kind, seq) DO NOTHING", entry.params, must=unmet)


def _book(account: Account, *, granted: Amount = NOTHING, used: Amount = NOTHING, held: Amount = NOTHING) -> Statement:
    """Add to the running sums of the account's month."""
    sums = (granted.tokens, used.tokens, held.tokens, granted.micro, used.micro, held.micro)
    return Statement(_BOOK, (account.user_id, account.period, *sums))


def _book_key(account: Account, *, used: int = 0, held: int = 0) -> list[Statement]:
    """Add to the running sums of the key's month, if it was a key's call."""
    if account.api_key_id is None:
        return []
    return [Statement(_BOOK_KEY, (account.api_key_id, account.period, used, held))]


def _check(amount: Amount) -> None:
    if amount.tokens < 0 or amount.micro < 0:
        raise ValueError(f"an amount of the ledger is never negative: {amount}")
