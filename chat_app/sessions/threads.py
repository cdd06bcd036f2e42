"""Threads: a person's conversations, each a tree of messages of which one branch is shown.

A branch is read from its head upwards, as far as a page needs, so that a thread of a thousand messages opens as fast
as one of ten. It does not know how an answer comes about.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chat_app.data.db.base import Database, Row, Statement
from chat_app.data.ids import now_ms
from chat_app.data.owner import Owner
from chat_app.sessions.generations import NotFound

TITLE_CHARS = 60

_BRANCH = """
WITH RECURSIVE branch AS (
  SELECT m.id, m.parent_id, m.role, m.content, m.generation_id, m.created_at, 1 AS depth
  FROM message m WHERE m.id = $1
  UNION ALL
  SELECT m.id, m.parent_id, m.role, m.content, m.generation_id, m.created_at, b.depth + 1
  FROM message m JOIN branch b ON m.id = b.parent_id WHERE b.depth < $2
)
SELECT b.id, b.parent_id, b.role, b.content, b.generation_id, b.created_at, g.status, g.error, g.receipt,
  (SELECT count(*) FROM message s WHERE s.parent_id = b.parent_id) AS versions
FROM branch b LEFT JOIN generation g ON g.id = b.generation_id
ORDER BY b.depth DESC
"""


@dataclass(frozen=True, slots=True)
class ThreadLine:
    """A thread as the sidebar shows it."""

    id: str
    title: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as the page shows it. `content` is empty while its generation runs: the text is in the log."""

    id: str
    parent_id: str | None
    role: str
    content: str
    status: str
    generation_id: str | None
    error: str
    receipt: dict[str, Any]
    versions: int
    created_at: int


@dataclass(frozen=True, slots=True)
class ThreadView:
    """The shown branch of a thread, oldest message first."""

    id: str
    title: str
    model: str
    head_id: str | None
    messages: list[MessageView]
    has_earlier: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """Ids of what a turn adds to a thread. `question_id` is None when an old question is answered anew."""

    thread_id: str
    answer_id: str
    parent_id: str | None
    question_id: str | None = None
    question: str = ""
    is_new_thread: bool = False


class Threads:
    """The `thread` and `message` tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def recent(self, owner: Owner, limit: int = 50, before: int | None = None) -> list[ThreadLine]:
        """The person's threads, newest activity first; `before` (ms) pages on."""
        rows = await self._db.query(
            "SELECT id, title, updated_at FROM thread WHERE user_id = $1 AND deleted_at IS NULL AND updated_at < $2"
            " ORDER BY updated_at DESC LIMIT $3",
            owner.user_id,
            before if before is not None else now_ms() + 60_000,
            limit,
        )
        return [ThreadLine(row["id"], row["title"], row["updated_at"]) for row in rows]

    async def open(self, owner: Owner, thread_id: str, limit: int = 40, before: str | None = None) -> ThreadView:
        """The shown branch, its last `limit` messages; `before` (a message id of it) reads further up.

        Raises `NotFound` for an unknown or deleted thread, and for another person's.
        """
        thread = await self._mine(owner, thread_id)
        start = thread["head_id"]
        if before is not None:
            rows = await self._db.query(
                "SELECT parent_id FROM message WHERE id = $1 AND thread_id = $2", before, thread_id
            )
            if not rows:
                raise NotFound(before)
            start = rows[0]["parent_id"]
        rows = await self._branch(start, limit)
        return ThreadView(
            id=thread_id,
            title=thread["title"],
            model=thread["model"],
            head_id=thread["head_id"],
            messages=[_view(row) for row in rows],
            has_earlier=bool(rows) and rows[0]["parent_id"] is not None,
        )

    async def history(self, message_id: str | None) -> list[tuple[str, str]]:
        """Role and text of every message from the first to this one, as a model should read them.

        A question that got no answer (refused, failed or stopped before its first token) is left out with it,
        unless it is the last message.
        """
        told: list[tuple[str, str]] = []
        for row in await self._branch(message_id, 1_000_000):
            if row["role"] == "assistant" and not row["content"]:
                if told and told[-1][0] == "user":
                    told.pop()
                continue
            told.append((row["role"], row["content"]))
        return told

    async def answer(self, owner: Owner, answer_id: str) -> tuple[str, str, str]:
        """Thread id, question id and question text of one of the person's answers. Raises `NotFound`."""
        rows = await self._db.query(
            "SELECT a.thread_id, q.id, q.content FROM message a JOIN thread t ON t.id = a.thread_id"
            " JOIN message q ON q.id = a.parent_id"
            " WHERE a.id = $1 AND a.role = 'assistant' AND t.user_id = $2 AND t.deleted_at IS NULL",
            answer_id,
            owner.user_id,
        )
        if not rows:
            raise NotFound(answer_id)
        return str(rows[0]["thread_id"]), str(rows[0]["id"]), str(rows[0]["content"])

    async def head(self, owner: Owner, thread_id: str) -> tuple[str | None, str]:
        """Last message of the shown branch and the thread's chosen model. Raises `NotFound`."""
        thread = await self._mine(owner, thread_id)
        return thread["head_id"], str(thread["model"])

    async def rename(self, owner: Owner, thread_id: str, title: str) -> None:
        """Raises `NotFound`. An empty title changes nothing."""
        if not title.strip():
            return
        await self._touch(owner, thread_id, "title = $3", title.strip()[: TITLE_CHARS * 2])

    async def delete(self, owner: Owner, thread_id: str) -> None:
        """Takes the thread off every list at once. Raises `NotFound`."""
        await self._touch(owner, thread_id, "deleted_at = $3", now_ms())

    def add(self, owner: Owner, exchange: Exchange, generation_id: str, model: str) -> list[Statement]:
        """Put a question and the place of its answer into a thread, which is made if it is new."""
        now = now_ms()
        statements: list[Statement] = []
        if exchange.is_new_thread:
            statements.append(
                Statement(
                    "INSERT INTO thread (id, tenant_id, user_id, title, model, head_id, created_at, updated_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
                    (
                        exchange.thread_id,
                        owner.tenant_id,
                        owner.user_id,
                        title_of(exchange.question),
                        model,
                        exchange.answer_id,
                        now,
                    ),
                )
            )
        else:
            statements.append(
                Statement(
                    "UPDATE thread SET head_id = $3, updated_at = $4, model = $5"
                    " WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
                    (exchange.thread_id, owner.user_id, exchange.answer_id, now, model),
                    must="thread",
                )
            )
        insert = (
            "INSERT INTO message (id, thread_id, parent_id, role, content, generation_id, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        )
        answered = exchange.parent_id
        if exchange.question_id is not None:
            question = (
                exchange.question_id,
                exchange.thread_id,
                exchange.parent_id,
                "user",
                exchange.question,
            )
            statements.append(Statement(insert, (*question, None, now)))
            answered = exchange.question_id
        answer = (exchange.answer_id, exchange.thread_id, answered, "assistant", "", generation_id, now)
        statements.append(Statement(insert, answer))
        return statements

    async def _mine(self, owner: Owner, thread_id: str) -> Row:
        rows = await self._db.query(
            "SELECT title, model, head_id FROM thread WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
            thread_id,
            owner.user_id,
        )
        if not rows:
            raise NotFound(thread_id)
        return rows[0]

    async def _branch(self, head_id: str | None, limit: int) -> Sequence[Row]:
        return await self._db.query(_BRANCH, head_id, limit) if head_id is not None else []

    async def _touch(self, owner: Owner, thread_id: str, change: str, value: str | int) -> None:
        [rows] = await self._db.batch(
            Statement(
                f"UPDATE thread SET {change} WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL RETURNING id",
                (thread_id, owner.user_id, value),
            )
        )
        if not rows:
            raise NotFound(thread_id)


def title_of(question: str) -> str:
    """A thread's first title: the beginning of its first question, cut at a word."""
    line = " ".join(question.split())
    if len(line) <= TITLE_CHARS:
        return line or "New chat"
    return line[: TITLE_CHARS - 1].rsplit(" ", 1)[0].rstrip(",.;:") + "…"


def _view(row: Row) -> MessageView:
    return MessageView(
        id=row["id"],
        parent_id=row["parent_id"],
        role=row["role"],
        content=row["content"],
        status=row["status"] or "done",
        generation_id=row["generation_id"],
        error=row["error"] or "",
        receipt=json.loads(row["receipt"] or "{}"),
        versions=row["versions"],
        created_at=row["created_at"],
    )
