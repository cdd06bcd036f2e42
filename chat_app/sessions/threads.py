"""Threads: a person's conversations, each a tree of messages of which one branch is shown.

A branch is read from its end upwards, as far as a page or a prompt needs, so that a thread of a thousand messages opens
as fast as one of ten. It does not know how an answer comes about.
"""

import json
from collections.abc import Sequence

from chat_app.data.acts import Act, By, Recorder, Unrecorded
from chat_app.data.db.base import Database, Row, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.owner import Owner
from chat_app.sessions.generations import NotFound
from chat_app.sessions.thread_views import (
    TITLE_CHARS,
    Exchange,
    History,
    MessageView,
    Said,
    ThreadLine,
    ThreadView,
    title_of,
)

__all__ = [
    "GONE",
    "Exchange",
    "History",
    "MessageView",
    "Said",
    "ThreadLine",
    "ThreadView",
    "Threads",
    "branched",
    "title_of",
]

GONE = "thread"
"""Name of the unmet condition when the thread was deleted meanwhile, or its parent message is not one of its own."""

ROUND = 500
"""Most messages that one query of a history reads."""
LEAST_CHARS = 24
"""What a message counts in a history at least: a template's tokens around it take room too."""
RECEIPTS = 12
"""Of how many of its newest messages a history reads the receipts."""
MOST_VERSIONS = 1_000
"""As far as versions of a message are counted."""

_BRANCH = f"""
WITH RECURSIVE branch AS (
  SELECT m.id, m.parent_id, m.role, m.content, m.log, m.generation_id, m.created_at, 1 AS seen
  FROM message m WHERE m.id = $1 AND m.thread_id = $2
  UNION ALL
  SELECT m.id, m.parent_id, m.role, m.content, m.log, m.generation_id, m.created_at, b.seen + 1
  FROM message m JOIN branch b ON m.id = b.parent_id WHERE b.seen < $3
)
SELECT b.id, b.parent_id, b.role, b.content, b.log, b.generation_id, b.created_at,
  g.status, g.error, g.receipt, g.log_length,
  CASE WHEN b.parent_id IS NULL THEN 1 ELSE (
    SELECT count(*) FROM (SELECT 1 FROM message s WHERE s.parent_id = b.parent_id LIMIT {MOST_VERSIONS}) AS siblings
  ) END AS versions
FROM branch b LEFT JOIN generation g ON g.id = b.generation_id
ORDER BY b.seen DESC
"""

_HISTORY = f"""
WITH RECURSIVE branch AS (
  SELECT m.id, m.parent_id, m.role, m.content, m.depth, m.generation_id, length(m.content) + {LEAST_CHARS} AS chars,
    1 AS seen
  FROM message m JOIN thread t ON t.id = m.thread_id
  WHERE m.id = $1 AND t.user_id = $2 AND t.deleted_at IS NULL
  UNION ALL
  SELECT m.id, m.parent_id, m.role, m.content, m.depth, m.generation_id,
    b.chars + length(m.content) + {LEAST_CHARS}, b.seen + 1
  FROM message m JOIN branch b ON m.id = b.parent_id WHERE b.chars < $3 AND b.seen < {ROUND}
)
SELECT b.parent_id, b.role, b.content, b.depth, b.chars, g.model, g.receipt
FROM branch b LEFT JOIN generation g ON g.id = b.generation_id AND b.seen <= {RECEIPTS}
ORDER BY b.seen
"""

_NEW_THREAD = (
    "INSERT INTO thread (id, tenant_id, user_id, title, model, head_id, created_at, updated_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING id AS thread_id, head_id"
)
# Compare and set: where somebody else moved the head meanwhile, it stays, and what is added stands beside it.
_MOVE_HEAD = (
    "UPDATE thread SET head_id = CASE WHEN COALESCE(head_id, '') = $6 THEN $3 ELSE head_id END,"
    " updated_at = $4, model = $5"
    " WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL RETURNING id AS thread_id, head_id"
)
_FIRST = (
    "INSERT INTO message (id, thread_id, role, content, generation_id, created_at, depth)"
    " VALUES ($1, $2, $3, $4, $5, $6, 1)"
)
_NEXT = (
    "INSERT INTO message (id, thread_id, parent_id, role, content, generation_id, created_at, depth)"
    " SELECT CAST($1 AS VARCHAR), p.thread_id, p.id, CAST($3 AS VARCHAR), CAST($4 AS TEXT), CAST($5 AS VARCHAR),"
    " CAST($6 AS BIGINT), p.depth + 1 FROM message p WHERE p.id = $7 AND p.thread_id = $2"
)


class Threads:
    """The `thread` and `message` tables."""

    def __init__(self, db: Database, audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()

    async def recent(self, owner: Owner, limit: int = 50) -> list[ThreadLine]:
        """The person's threads, newest activity first."""
        rows = await self._db.query(
            "SELECT id, title, updated_at FROM thread WHERE user_id = $1 AND deleted_at IS NULL"
            " ORDER BY updated_at DESC, id DESC LIMIT $2",
            owner.user_id,
            limit,
        )
        return [ThreadLine(row["id"], row["title"], row["updated_at"]) for row in rows]

    async def open(
        self, owner: Owner, thread_id: str, limit: int = 40, before: str | None = None, at: str | None = None
    ) -> ThreadView:
        """The last `limit` messages of a branch: the shown one, or the one that ends with the message `at`.

        `before` (a message of that thread) reads further up from there. Raises `NotFound` for an unknown or deleted
        thread, for another person's, and for a message that is not of this thread.
        """
        thread = await self._mine(owner, thread_id)
        head = at if at is not None else thread["head_id"]
        start = head
        if before is not None:
            rows = await self._db.query(
                "SELECT parent_id FROM message WHERE id = $1 AND thread_id = $2", before, thread_id
            )
            if not rows:
                raise NotFound(before)
            start = rows[0]["parent_id"]
        rows = await self._db.query(_BRANCH, start, thread_id, limit) if start is not None else []
        if not rows and start is not None:
            raise NotFound(start)
        return ThreadView(
            id=thread_id,
            title=thread["title"],
            model=thread["model"],
            head_id=head,
            messages=[_view(row) for row in rows],
            has_earlier=bool(rows) and rows[0]["parent_id"] is not None,
        )

    async def history(self, owner: Owner, message_id: str | None, most_chars: int) -> History:
        """The branch that ends with this message, as a model should read it, up to about `most_chars` from its end.

        However long the thread is, no more of it is read. A question that got no answer (refused, failed or stopped
        before its first token) is left out with it, unless it is the last message. Raises `NotFound`.
        """
        history = _Reading()
        start = message_id
        while start is not None and most_chars > 0:
            rows = await self._db.query(_HISTORY, start, owner.user_id, most_chars)
            if not rows:
                raise NotFound(start)
            for row in rows:
                history.add(row)
            start = rows[-1]["parent_id"]
            most_chars -= rows[-1]["chars"]
        return history.whole()

    async def answer(self, owner: Owner, answer_id: str) -> tuple[str, str]:
        """Thread id and question id of one of the person's answers. Raises `NotFound`."""
        rows = await self._db.query(
            "SELECT a.thread_id, a.parent_id FROM message a JOIN thread t ON t.id = a.thread_id"
            " WHERE a.id = $1 AND a.role = 'assistant' AND t.user_id = $2 AND t.deleted_at IS NULL",
            answer_id,
            owner.user_id,
        )
        if not rows:
            raise NotFound(answer_id)
        return str(rows[0]["thread_id"]), str(rows[0]["parent_id"])

    async def head(self, owner: Owner, thread_id: str) -> tuple[str | None, str]:
        """Last message of the shown branch and the thread's chosen model. Raises `NotFound`."""
        thread = await self._mine(owner, thread_id)
        return thread["head_id"], str(thread["model"])

    async def rename(self, owner: Owner, thread_id: str, title: str) -> None:
        """Raises `NotFound`. An empty title changes nothing."""
        if not title.strip():
            return
        await self._touch(owner, thread_id, "title = $3", title.strip()[: TITLE_CHARS * 2])

    async def delete(self, owner: Owner, thread_id: str, *, address: str = "") -> None:
        """Takes the thread off every list at once. Raises `NotFound`."""
        act = Act("chat_delete", By(owner.user_id, address), "chat", thread_id)
        await self._touch(owner, thread_id, "deleted_at = $3", now_ms(), *self._audit.statements(act))

    def add(
        self, owner: Owner, exchange: Exchange, generation_id: str, model: str, seen_head: str | None
    ) -> list[Statement]:
        """Put a question and the place of its answer into a thread, which is made if it is new.

        The answer becomes the thread's head if that is still `seen_head`; else both stand beside what somebody else
        added meanwhile, and `branched` finds that in the batch's results. Unmet as GONE.
        """
        now = now_ms()
        thread_id, answer_id = exchange.thread_id, exchange.answer_id
        if exchange.is_new_thread:
            new = (thread_id, owner.tenant_id, owner.user_id, title_of(exchange.question), model, answer_id, now)
            statements = [Statement(_NEW_THREAD, new)]
        else:
            moved = (thread_id, owner.user_id, answer_id, now, model, seen_head or "")
            statements = [Statement(_MOVE_HEAD, moved, must=GONE)]
        parent_id = exchange.parent_id
        if exchange.question_id is not None:
            question = (exchange.question_id, thread_id, "user", exchange.question, None, now)
            statements.append(_message(question, parent_id))
            parent_id = exchange.question_id
        statements.append(_message((answer_id, thread_id, "assistant", "", generation_id, now), parent_id))
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

    async def _touch(self, owner: Owner, thread_id: str, change: str, value: str | int, *beside: Statement) -> None:
        touch = Statement(
            f"UPDATE thread SET {change} WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
            (thread_id, owner.user_id, value),
            must=thread_id,
        )
        try:
            await self._db.batch(touch, *beside)
        except Unmet as unmet:
            raise NotFound(thread_id) from unmet


def branched(results: Sequence[Sequence[Row]], exchange: Exchange) -> bool:
    """Whether the exchange stands beside the shown branch, from the results of the batch that `add` was part of."""
    heads = [row["head_id"] for rows in results for row in rows if row.get("thread_id") == exchange.thread_id]
    return exchange.answer_id not in heads


class _Reading:
    """A history as it is read, newest message first."""

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._unanswered = False
        self._last_answer: Row | None = None

    def add(self, row: Row) -> None:
        is_answer = row["role"] == "assistant"
        if is_answer and not row["content"]:
            self._unanswered = True
            return
        is_without_answer, self._unanswered = self._unanswered, False
        if is_without_answer:
            return
        if is_answer and self._last_answer is None:
            self._last_answer = row
        self._said.append(Said(row["role"], row["content"], row["depth"] - 1))

    def whole(self) -> History:
        answer = self._last_answer or {}
        dropped = json.loads(answer.get("receipt") or "{}").get("dropped_messages")
        return History(tuple(reversed(self._said)), answer.get("model") or "", dropped)


def _message(values: tuple[str | int | None, ...], parent_id: str | None) -> Statement:
    if parent_id is None:
        return Statement(_FIRST, values)
    return Statement(_NEXT, (*values, parent_id), must=GONE)


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
        log_length=row["log_length"] or 0,
        log=row["log"],
    )
