"""Generations: answers as durable jobs, one row each.

Every write that moves or ends a job names its fence, so an owner that was replaced changes nothing. The fence rises
with each claim, in the statement that claims. Writes are returned as statements where the turn must commit them
together with other rooms' ones. It does not know money, engines or prompts: `job` is text that the turn wrote and will
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from chat_app.data.db.base import Database, Row, Statement
from chat_app.data.ids import now_ms
from chat_app.data.owner import Owner
from chat_app.data.tables.sessions import IS_ACTIVE, QUEUED, STREAMING

ENDED = frozenset({"done", "stopped", "failed", "refused"})
LEFT_MS = 3_600_000
"""How long a job that only a newer release can do is left to one; then it is given up."""
NOT_OWNER = "owner"
"""Name of the unmet condition when another owner has the generation, or it has ended already."""
OWNED = f"id = $1 AND fence = $2 AND {IS_ACTIVE}"
"""Condition on a row of `generation`: it is active, and nobody has claimed it under a higher fence."""


class NotFound(Exception):
    """There is no such thing, or it is another person's."""


@dataclass(slots=True)
class GenerationRow:
    """What any process needs to work on a generation. `fence` is this owner's; times are milliseconds since 1970.

    `held_tokens` and `held_micro` (micro-units of the currency) are what its open step `step` holds.
    """

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    period: str
    created_at: int
    source: str = "chat"
    api_key_id: str | None = None
    thread_id: str | None = None
    message_id: str | None = None
    model: str = ""
    job: str = ""
    job_version: int = 1
    step: int = 1
    held_tokens: int = 0
    held_micro: int = 0
    status: str = QUEUED
    owner: str = ""
    fence: int = 1
    attempts: int = 1
    first_token_at: int | None = None

    @property
    def fresh(self) -> bool:
        """Whether nobody has had it before this owner: every claim, also of an own job, raises the fence."""
        return self.fence == 1


_FIELDS = tuple(GenerationRow.__dataclass_fields__)
_COLUMNS = ", ".join(_FIELDS)
_PLACES = ", ".join(f"${n}" for n in range(1, len(_FIELDS) + 1))
_CREATE = (
    f"INSERT INTO generation ({_COLUMNS}, prompt_tokens, completion_tokens, cached_tokens, cost_micro, error,"
    f" receipt, log_length) VALUES ({_PLACES}, 0, 0, 0, 0, '', '', 0)"
)
_FINISH = (
    "UPDATE generation SET status = $3, completion_tokens = $4, prompt_tokens = $5, cached_tokens = $6,"
    " cost_micro = $7, error = $8, receipt = $9, first_token_at = COALESCE($10, first_token_at),"
    " finished_at = $11, log_length = $12, model = $13, job = '', held_tokens = 0, held_micro = 0"
    f" WHERE {OWNED}"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. `error` is in a person's words.

    `content` is the answer's text for its message. `log` is its whole generation log, `log_length` the log's length in
    characters; the log is kept with the message only if it is more than the text.
    """

    status: str
    content: str = ""
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cost_micro: int = 0
    error: str = ""
    first_token_at: int | None = None
    finished_at: int = 0
    receipt: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    log_length: int = 0


@dataclass(frozen=True, slots=True)
class GenerationView:
    """What its owner may see of a generation."""

    id: str
    status: str
    source: str
    model: str
    thread_id: str | None
    message_id: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micro: int
    error: str
    receipt: dict[str, Any]
    created_at: int

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database keeps of an ended answer: its log ("" if it has no message), and how long the log was."""

    log: str
    length: int


class Generations:
    """The `generation` table, and the checkpoints beside it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # Statements ------------------------------------------------------------------------------------------------------

    def create(self, row: GenerationRow) -> Statement:
        """The row of a new job, as `row` says: its owner, its fence and its status too."""
        return Statement(_CREATE, tuple(getattr(row, name) for name in _FIELDS))

    def advance(self, row: GenerationRow, step: int, held_tokens: int, held_micro: int) -> Statement:
        """The job goes on with this step, what it holds, and the row's model. Unmet as NOT_OWNER unless this fence owns
        an active row."""
        return Statement(
            f"UPDATE generation SET step = $3, held_tokens = $4, held_micro = $5, model = $6 WHERE {OWNED}",
            (row.id, row.fence, step, held_tokens, held_micro, row.model),
            must=NOT_OWNER,
        )

    def streaming(self, row: GenerationRow, first_token_at: int | None) -> Statement:
        """Text flows from the row's model, since `first_token_at` if no earlier owner had any. Unmet as NOT_OWNER."""
        return Statement(
            f"UPDATE generation SET status = '{STREAMING}', first_token_at = COALESCE(first_token_at, $3),"
            f" model = $4 WHERE {OWNED}",
            (row.id, row.fence, first_token_at, row.model),
            must=NOT_OWNER,
        )

    def checkpoint(self, row: GenerationRow, start: int, text: str) -> Statement:
        """Keep the log's characters from `start` on, beside a log that is not durable. Unmet as NOT_OWNER.

        The same `start` again replaces its piece.
        """
        return Statement(
            "INSERT INTO checkpoint (generation_id, start, text)"
            f" SELECT id, $3, $4 FROM generation WHERE {OWNED}{locking(self._db)}"
            " ON CONFLICT (generation_id, start) DO UPDATE SET text = excluded.text",
            (row.id, row.fence, start, text),
            must=NOT_OWNER,
        )

    def finish(self, row: GenerationRow, outcome: Outcome) -> list[Statement]:
        """End the job; its message gets the text. What only a running job needs is deleted. Unmet as NOT_OWNER."""
        statements = [
            Statement(
                _FINISH,
                (
                    row.id,
                    row.fence,
                    outcome.status,
                    outcome.completion_tokens,
                    outcome.prompt_tokens,
                    outcome.cached_tokens,
                    outcome.cost_micro,
                    outcome.error,
                    orjson.dumps(outcome.receipt).decode(),
                    outcome.first_token_at,
                    outcome.finished_at,
                    outcome.log_length,
                    row.model,
                ),
                must=NOT_OWNER,
            ),
            Statement("DELETE FROM checkpoint WHERE generation_id = $1", (row.id,)),
        ]
        if row.step > 1:
            statements.append(
                Statement("UPDATE step SET output = '' WHERE generation_id = $1 AND output <> ''", (row.id,))
            )
        if row.message_id is not None:
            log = "" if outcome.log == outcome.content else outcome.log
            statements.append(
                Statement(
                    "UPDATE message SET content = $2, log = $3 WHERE id = $1", (row.message_id, outcome.content, log)
                )
            )
        return statements

    # Whose jobs they are ---------------------------------------------------------------------------------------------

    async def claim(self, dead: str, me: str, most: int, version: int) -> list[GenerationRow]:
        """Take up to `most` active jobs of `dead` over, the oldest first, each under its next fence.

        Jobs of a version above `version` are left alone for `LEFT_MS`, and so are those that another process takes at
        this moment.
        """
        skip = " FOR UPDATE SKIP LOCKED" if self._db.dialect == "postgresql" else ""
        whose = f"owner = $1 AND (job_version <= $4 OR created_at < $5) AND {IS_ACTIVE}"
        [rows] = await self._db.batch(
            Statement(
                # MATERIALIZED: the rows are picked once, whatever the planner makes of the rest.
                "WITH picked AS MATERIALIZED"
                f" (SELECT id FROM generation WHERE {whose} ORDER BY created_at LIMIT $3{skip})"
                " UPDATE generation SET owner = $2, fence = fence + 1, attempts = attempts + 1"
                f" WHERE id IN (SELECT id FROM picked) AND {whose} RETURNING {_COLUMNS}",
                (dead, me, most, version, now_ms() - LEFT_MS),
            )
        )
        return [_row(row) for row in rows]

    async def reclaim(self, generation_id: str, me: str, fence: int, *, counted: bool = True) -> GenerationRow | None:
        """Take an own job up again under its next fence; None if it has ended or its fence is not `fence` any more.

        With `counted` false the last attempt does not count. Only the first one always does: `attempts` is 1 as long
        as nobody has taken the job up again.
        """
        [rows] = await self._db.batch(
            Statement(
                "UPDATE generation SET fence = fence + 1,"
                " attempts = attempts + CASE WHEN attempts = 1 THEN 1 ELSE $4 END"
                f" WHERE {OWNED} AND owner = $3 RETURNING {_COLUMNS}",
                (generation_id, fence, me, int(counted)),
            )
        )
        return _row(rows[0]) if rows else None

    async def hand_back(self, row: GenerationRow) -> None:
        """Leave the job to whoever can do it: it has no owner any more. That was no attempt at it."""
        await self._db.batch(
            Statement(
                f"UPDATE generation SET owner = '', attempts = attempts - 1 WHERE {OWNED} AND owner = $3",
                (row.id, row.fence, row.owner),
            )
        )

    async def owners(self) -> list[str]:
        """Everybody who owns an active job, in order; '' stands for nobody. Costs a look-up for each of them."""
        first = f"(SELECT owner FROM generation WHERE {IS_ACTIVE} ORDER BY owner LIMIT 1)"
        next_ = f"(SELECT owner FROM generation WHERE {IS_ACTIVE} AND owner > known.owner ORDER BY owner LIMIT 1)"
        rows = await self._db.query(
            f"WITH RECURSIVE known (owner) AS (SELECT {first} UNION ALL"
            f" SELECT {next_} FROM known WHERE known.owner IS NOT NULL)"
            " SELECT owner FROM known WHERE owner IS NOT NULL"
        )
        return [str(row["owner"]) for row in rows]

    async def active_of(self, owner: str) -> list[tuple[str, int]]:
        """Id and fence of every active job of one owner, the oldest first."""
        rows = await self._db.query(
            f"SELECT id, fence FROM generation WHERE owner = $1 AND {IS_ACTIVE} ORDER BY created_at", owner
        )
        return [(str(row["id"]), int(row["fence"])) for row in rows]

    async def owned(self, row: GenerationRow) -> bool:
        """Whether nobody has claimed the job since `row` was read, be it active or ended."""
        rows = await self._db.query(
            "SELECT 1 FROM generation WHERE id = $1 AND fence = $2 AND owner = $3", row.id, row.fence, row.owner
        )
        return bool(rows)

    async def ended_under(self, row: GenerationRow) -> bool:
        """Whether the job has ended, and by this very fence."""
        rows = await self._db.query("SELECT status FROM generation WHERE id = $1 AND fence = $2", row.id, row.fence)
        return bool(rows) and rows[0]["status"] in ENDED

    async def step_under(self, row: GenerationRow) -> int | None:
        """The step at which the job stands under this fence; None if another owner has it."""
        rows = await self._db.query("SELECT step FROM generation WHERE id = $1 AND fence = $2", row.id, row.fence)
        return int(rows[0]["step"]) if rows else None

    # What there is to read -------------------------------------------------------------------------------------------

    async def checkpointed(self, generation_id: str) -> str:
        """The beginning of the log, as far as checkpoints hold it without a gap."""
        rows = await self._db.query(
            "SELECT start, text FROM checkpoint WHERE generation_id = $1 ORDER BY start", generation_id
        )
        text = ""
        for row in rows:
            if row["start"] > len(text):
                break
            text = text[: row["start"]] + row["text"]
        return text

    async def status(self, generation_id: str) -> str | None:
        """The status, or None for an unknown id."""
        rows = await self._db.query("SELECT status FROM generation WHERE id = $1", generation_id)
        return str(rows[0]["status"]) if rows else None

    async def sources(self, generation_ids: Sequence[str]) -> dict[str, str]:
        """Where these generations came from (chat, api) by their ids; of those that there are."""
        if not generation_ids:
            return {}
        places = ", ".join(f"${n}" for n in range(1, len(generation_ids) + 1))
        rows = await self._db.query(f"SELECT id, source FROM generation WHERE id IN ({places})", *generation_ids)
        return {row["id"]: row["source"] for row in rows}

    async def kept(self, generation_id: str) -> Kept:
        """What is kept of an ended answer; nothing for an unknown id."""
        rows = await self._db.query(
            "SELECT g.log_length, m.content, m.log FROM generation g LEFT JOIN message m ON m.id = g.message_id"
            " WHERE g.id = $1",
            generation_id,
        )
        if not rows:
            return Kept("", 0)
        [row] = rows
        return Kept(row["log"] or row["content"] or "", row["log_length"])

    async def active_in(self, thread_id: str) -> list[str]:
        """The answers of a thread that are being written."""
        rows = await self._db.query(f"SELECT id FROM generation WHERE thread_id = $1 AND {IS_ACTIVE}", thread_id)
        return [str(row["id"]) for row in rows]

    async def written_for(self, user_id: str) -> list[str]:
        """The person's answers that are being written, in threads and for programs."""
        rows = await self._db.query(f"SELECT id FROM generation WHERE user_id = $1 AND {IS_ACTIVE}", user_id)
        return [str(row["id"]) for row in rows]

    async def in_deleted_threads(self, owner: str) -> list[str]:
        """The active jobs of one owner whose thread has been deleted."""
        rows = await self._db.query(
            "SELECT g.id FROM generation g JOIN thread t ON t.id = g.thread_id"
            f" WHERE g.owner = $1 AND g.{IS_ACTIVE} AND t.deleted_at IS NOT NULL",
            owner,
        )
        return [str(row["id"]) for row in rows]

    async def view(self, owner: Owner, generation_id: str) -> GenerationView:
        """One generation of this person. Raises `NotFound`, also once its thread has been deleted."""
        rows = await self._db.query(
            "SELECT id, status, source, model, thread_id, message_id, prompt_tokens, completion_tokens, cached_tokens,"
            " cost_micro, error, receipt, created_at FROM generation WHERE id = $1 AND user_id = $2 AND NOT EXISTS"
            " (SELECT 1 FROM thread WHERE thread.id = generation.thread_id AND thread.deleted_at IS NOT NULL)",
            generation_id,
            owner.user_id,
        )
        if not rows:
            raise NotFound(generation_id)
        fields = dict(rows[0])
        return GenerationView(**{**fields, "receipt": orjson.loads(fields["receipt"] or "{}")})


def locking(db: Database) -> str:
    """What a SELECT of OWNED needs at its end, so that no claim comes between it and the write that rests on it.

    SQLite has one writer at a time and needs nothing.
    """
    return " FOR NO KEY UPDATE" if db.dialect == "postgresql" else ""


def _row(row: Row) -> GenerationRow:
    return GenerationRow(**dict(row))
