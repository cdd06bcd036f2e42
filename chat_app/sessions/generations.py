"""Generations: answers as durable jobs, one row each.

Every write that ends or moves a job names its fencing number, so an owner that was replaced changes nothing.
It answers statements where the turn must commit them together with other rooms' ones. It does not know money,
engines or prompts: `prompt` is text that the turn wrote and will read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chat_app.data.db.base import Database, Row, Statement
from chat_app.data.owner import Owner

ENDED = frozenset({"done", "stopped", "failed", "refused"})
LOST = "owner"
"""Name of the unmet condition when another owner has the generation, or it has ended already."""


class NotFound(Exception):
    """There is no such thing, or it is another person's."""


@dataclass(slots=True)
class Job:
    """What any process needs to work on a generation. `fence` is this owner's."""

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    period: str
    created_at: int
    model: str = ""
    prompt: str = ""
    held_tokens: int = 0
    prompt_tokens: int = 0
    source: str = "chat"
    thread_id: str | None = None
    message_id: str | None = None
    fence: int = 0
    checkpoint: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. `content` is the answer's text for its message; `error` is in a person's words."""

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


class Generations:
    """The `generation` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, job: Job, owner: str, status: str = "queued") -> Statement:
        """The row of a new job that `owner` already holds the lease of."""
        return Statement(
            "INSERT INTO generation (id, tenant_id, user_id, thread_id, message_id, source, status, owner, fence,"
            " model, plan_id, prompt, checkpoint, period, held_tokens, prompt_tokens, completion_tokens,"
            " cached_tokens, cost_micro, attempts, error, receipt, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', $13, $14, $15, 0, 0, 0, 1, '', '', $16)",
            (
                job.id,
                job.tenant_id,
                job.user_id,
                job.thread_id,
                job.message_id,
                job.source,
                status,
                owner,
                job.fence,
                job.model,
                job.plan_id,
                job.prompt,
                job.period,
                job.held_tokens,
                job.prompt_tokens,
                job.created_at,
            ),
        )

    def finish(self, job: Job, outcome: Outcome) -> list[Statement]:
        """End the job and give its message the text. Unmet as LOST unless this fence still owns an active row."""
        statements = [
            Statement(
                "UPDATE generation SET status = $3, completion_tokens = $4, prompt_tokens = $5, cached_tokens = $6,"
                " cost_micro = $7, error = $8, receipt = $9, first_token_at = $10, finished_at = $11,"
                " prompt = '', checkpoint = ''"
                " WHERE id = $1 AND fence = $2 AND status IN ('queued', 'streaming')",
                (
                    job.id,
                    job.fence,
                    outcome.status,
                    outcome.completion_tokens,
                    outcome.prompt_tokens,
                    outcome.cached_tokens,
                    outcome.cost_micro,
                    outcome.error,
                    json.dumps(outcome.receipt),
                    outcome.first_token_at,
                    outcome.finished_at,
                ),
                must=LOST,
            )
        ]
        if job.message_id is not None:
            statements.append(
                Statement("UPDATE message SET content = $2 WHERE id = $1", (job.message_id, outcome.content))
            )
        return statements

    def streaming(self, job: Job, checkpoint: str | None, first_token_at: int | None) -> Statement:
        """Note that text flows; with a checkpoint where the log alone is not durable. Unmet as LOST."""
        return Statement(
            "UPDATE generation SET status = 'streaming', first_token_at = COALESCE(first_token_at, $3),"
            " checkpoint = COALESCE($4, checkpoint)"
            " WHERE id = $1 AND fence = $2 AND status IN ('queued', 'streaming')",
            (job.id, job.fence, first_token_at, checkpoint),
            must=LOST,
        )

    async def claim(self, generation_id: str, owner: str, fence: int) -> Job | None:
        """Make `owner` the owner under a higher fence; None if the job has ended or a higher fence was here."""
        [rows] = await self._db.batch(
            Statement(
                "UPDATE generation SET owner = $2, fence = $3, attempts = attempts + 1"
                " WHERE id = $1 AND fence < $3 AND status IN ('queued', 'streaming')"
                " RETURNING id, tenant_id, user_id, model, plan_id, prompt, period, held_tokens, prompt_tokens,"
                " created_at, source, thread_id, message_id, fence, checkpoint, attempts",
                (generation_id, owner, fence),
            )
        )
        return Job(**dict(rows[0])) if rows else None

    async def active(self) -> Sequence[Row]:
        """Id, owner and fence of every job that some process has to be working on."""
        return await self._db.query(
            "SELECT id, owner, fence FROM generation WHERE status IN ('queued', 'streaming') ORDER BY created_at"
        )

    async def status(self, generation_id: str) -> str | None:
        """The status, or None for an unknown id."""
        rows = await self._db.query("SELECT status FROM generation WHERE id = $1", generation_id)
        return str(rows[0]["status"]) if rows else None

    async def content(self, generation_id: str) -> str | None:
        """The text of an ended answer from its message; None if it has no message (a call of the API)."""
        rows = await self._db.query("SELECT content FROM message WHERE generation_id = $1", generation_id)
        return str(rows[0]["content"]) if rows else None

    async def view(self, owner: Owner, generation_id: str) -> GenerationView:
        """One generation of this person. Raises `NotFound`."""
        rows = await self._db.query(
            "SELECT id, status, source, model, thread_id, message_id, prompt_tokens, completion_tokens, cached_tokens,"
            " cost_micro, error, receipt, created_at FROM generation WHERE id = $1 AND user_id = $2",
            generation_id,
            owner.user_id,
        )
        if not rows:
            raise NotFound(generation_id)
        fields = dict(rows[0])
        return GenerationView(**{**fields, "receipt": json.loads(fields["receipt"] or "{}")})
