"""Plans: the tiers as data. A change is in force with the next turn, since every turn reads its plan.

It does not know who is on a plan (beyond how many), nor what a turn has used.
"""

import re
import unicodedata
from dataclasses import dataclass

from chat_app.data.acts import NOBODY, Act, By, Recorder, Unrecorded
from chat_app.data.db.base import Database, Row, Statement, Unmet
from chat_app.data.ids import now_ms

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MOST = 1_000_000_000_000
_COLUMNS = (
    "id, name, monthly_tokens, requests_per_minute, concurrent_streams, max_output_tokens, weight, position,"
    " archived_at"
)


class PlanError(Exception):
    """A plan cannot be saved or archived so; `message` says why in plain words."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan allows. `monthly_tokens` (prompt and answer together) and `max_output_tokens` (of one
    answer) are None where the plan sets no limit. `weight` is the share in the engine's queue, `position` the
    order on pages."""

    id: str
    name: str
    monthly_tokens: int | None
    requests_per_minute: int
    concurrent_streams: int
    max_output_tokens: int | None
    weight: int
    position: int = 0
    archived: bool = False


SEEDS = (
    Terms("free", "Free", 100_000, 60, 4, None, 1, 0),
    Terms("pro", "Pro", 5_000_000, 300, 16, None, 4, 1),
    Terms("enterprise", "Enterprise", None, 3_000, 128, None, 8, 2),
)


class Plans:
    """The `plan` table. `default` is the plan that new accounts get; it cannot be archived."""

    def __init__(self, db: Database, default: str = "free", audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()
        self._default = default

    async def seed(self) -> None:
        """Make the plans that an installation starts with; those that are there stay as they are."""
        await self._db.batch(*(_write(plan, "DO NOTHING") for plan in SEEDS))

    async def terms(self, plan_id: str) -> Terms:
        """What the plan allows now, archived or not: one query. Raises `PlanError`."""
        rows = await self._db.query(f"SELECT {_COLUMNS} FROM plan WHERE id = $1", plan_id)
        if not rows:
            raise PlanError(f"There is no plan {plan_id}.")
        return _terms(rows[0])

    async def all(self, *, archived: bool = False) -> list[Terms]:
        """The plans in the order of pages, with the archived ones if wanted."""
        rows = await self._db.query(f"SELECT {_COLUMNS} FROM plan ORDER BY position, created_at, id")
        return [terms for terms in map(_terms, rows) if archived or not terms.archived]

    async def save(
        self,
        id: str,
        name: str,
        monthly_tokens: int | None,
        requests_per_minute: int,
        concurrent_streams: int,
        max_output_tokens: int | None = None,
        weight: int = 1,
        position: int = 0,
        *,
        new: bool = False,
        by: By = NOBODY,
    ) -> Terms:
        """Make a plan or change it (bringing an archived one back). With `new` an id that is taken is
        refused.

        Raises `PlanError`, which names the first field that is wrong.
        """
        terms = _checked(
            Terms(
                id.strip(),
                name,
                monthly_tokens,
                requests_per_minute,
                concurrent_streams,
                max_output_tokens,
                weight,
                position,
            )
        )
        changes = ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS.split(", ")[1:])
        try:
            await self._db.batch(
                _write(terms, "DO NOTHING" if new else f"DO UPDATE SET {changes}", must="taken"),
                *self._audit.statements(Act("plan_save", by, "plan", terms.id, details=_figures(terms))),
            )
        except Unmet as unmet:
            raise PlanError(f"There is a plan {terms.id} already.") from unmet
        return terms

    async def archive(self, plan_id: str, *, by: By = NOBODY) -> None:
        """Take a plan out of use. Raises `PlanError` while somebody is on it, or if it is the default."""
        if plan_id == self._default:
            raise PlanError("New accounts get this plan, so it cannot be archived. Change the default plan first.")
        empty = "NOT EXISTS (SELECT 1 FROM users u WHERE u.plan_id = $1 AND u.closed_at IS NULL)"
        try:
            await self._db.batch(
                Statement("SELECT id FROM plan WHERE id = $1", (plan_id,), must=f"There is no plan {plan_id}."),
                Statement(
                    f"UPDATE plan SET archived_at = $2 WHERE id = $1 AND {empty}",
                    (plan_id, now_ms()),
                    must="Somebody is on this plan. Move its members to another plan first.",
                ),
                *self._audit.statements(Act("plan_archive", by, "plan", plan_id)),
            )
        except Unmet as unmet:
            raise PlanError(unmet.name) from unmet

    async def members(self, plan_id: str) -> int:
        """How many accounts are on the plan."""
        rows = await self._db.query(
            "SELECT COUNT(*) AS members FROM users WHERE plan_id = $1 AND closed_at IS NULL", plan_id
        )
        return int(rows[0]["members"])


def _write(plan: Terms, conflict: str, must: str | None = None) -> Statement:
    return Statement(
        f"INSERT INTO plan ({_COLUMNS}, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9)"
        f" ON CONFLICT (id) {conflict}",
        (
            plan.id,
            plan.name,
            plan.monthly_tokens,
            plan.requests_per_minute,
            plan.concurrent_streams,
            plan.max_output_tokens,
            plan.weight,
            plan.position,
            now_ms(),
        ),
        must=must,
    )


def _figures(plan: Terms) -> dict[str, int | None]:
    """What the audit trail keeps of a plan."""
    return {
        "monthly_tokens": plan.monthly_tokens,
        "requests_per_minute": plan.requests_per_minute,
        "concurrent_streams": plan.concurrent_streams,
        "max_output_tokens": plan.max_output_tokens,
        "weight": plan.weight,
    }


def _terms(row: Row) -> Terms:
    fields = dict(row)
    archived_at = fields.pop("archived_at")
    return Terms(**fields, archived=archived_at is not None)


def _checked(plan: Terms) -> Terms:
    if not _ID.fullmatch(plan.id):
        raise PlanError("The short name has 1 to 32 lower-case letters, digits and hyphens, e.g. team-2.")
    name = " ".join(unicodedata.normalize("NFC", plan.name).split())
    if not name or len(name) > 60 or not name.isprintable():
        raise PlanError("The name has 1 to 60 characters.")
    for label, value, least, most in (
        ("The monthly tokens", plan.monthly_tokens, 0, _MOST),
        ("The requests per minute", plan.requests_per_minute, 1, 1_000_000),
        ("The answers at once", plan.concurrent_streams, 1, 10_000),
        ("The longest answer in tokens", plan.max_output_tokens, 1, 1_000_000),
        ("The weight", plan.weight, 1, 1_000),
        ("The position", plan.position, 0, 10_000),
    ):
        if value is not None and not least <= value <= most:
            raise PlanError(f"{label} must be between {least:,} and {most:,}.")
    return Terms(
        plan.id,
        name,
        plan.monthly_tokens,
        plan.requests_per_minute,
        plan.concurrent_streams,
        plan.max_output_tokens,
        plan.weight,
        plan.position,
    )
