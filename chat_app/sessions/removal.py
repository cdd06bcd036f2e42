"""What of threads and calls is to be removed for good, and the statements that remove it, a few rows at a time.

Nobody sees a deleted thread any more, and nothing can begin in it; its row goes last, so whoever is interrupted begins
with the same thread again. An answer that is being written is left alone with all of its thread. It does not know who
removes, nor what else than these tables holds something of an answer.
"""

from collections.abc import Sequence

from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms
from chat_app.sessions.generations import ENDED

SETTLED_MS = 60_000
"""How long after its deletion, and after the end of its last answer, a thread is left alone: by then whoever wrote or
looked on has seen the end."""
AT_ONCE = 200
"""Most rows of a table that one transaction removes."""
_ENDED = f"status IN {tuple(sorted(ENDED))}"
"""Condition on a row of `generation`: it has ended. One whose status only a newer release knows may be at work."""


class Removal:
    """Removes rows of `thread`, `message`, `generation`, `step` and `checkpoint`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def deleted_threads(self) -> list[str]:
        """Deleted threads in which nothing is being written any more, the first deleted first, at most `AT_ONCE`."""
        rows = await self._db.query(
            "SELECT t.id FROM thread t WHERE t.deleted_at IS NOT NULL AND t.deleted_at <= $1 AND NOT EXISTS"
            " (SELECT 1 FROM generation g WHERE g.thread_id = t.id"
            f" AND (g.{_ENDED} AND g.finished_at <= $1) IS NOT TRUE)"
            " ORDER BY t.deleted_at LIMIT $2",
            now_ms() - SETTLED_MS,
            AT_ONCE,
        )
        return [str(row["id"]) for row in rows]

    async def answers_in(self, thread_id: str) -> list[str]:
        """Some of the thread's answers, at most `AT_ONCE`; none once all that have ended are removed."""
        return await self._answers("thread_id = $1", thread_id)

    async def calls_before(self, finished_before_ms: int) -> list[str]:
        """Calls of the API that ended before this moment, at most `AT_ONCE`."""
        return await self._answers("thread_id IS NULL AND finished_at < $1", finished_before_ms)

    def answers(self, generation_ids: Sequence[str]) -> list[Statement]:
        """Remove these answers with their steps and checkpoints. None of them may be active."""
        places = ", ".join(f"${n}" for n in range(1, len(generation_ids) + 1))
        ids = tuple(generation_ids)
        return [
            Statement(f"DELETE FROM step WHERE generation_id IN ({places})", ids),
            Statement(f"DELETE FROM checkpoint WHERE generation_id IN ({places})", ids),
            Statement(f"DELETE FROM generation WHERE id IN ({places})", ids),
        ]

    async def thread(self, thread_id: str) -> bool:
        """Remove some messages of a deleted thread, and the thread with the last of them; whether that was all."""
        messages, _ = await self._db.batch(
            Statement(
                "DELETE FROM message WHERE id IN (SELECT m.id FROM message m JOIN thread t ON t.id = m.thread_id"
                " WHERE t.id = $1 AND t.deleted_at IS NOT NULL LIMIT $2) RETURNING id",
                (thread_id, AT_ONCE),
            ),
            Statement(
                "DELETE FROM thread WHERE id = $1 AND deleted_at IS NOT NULL AND NOT EXISTS"
                " (SELECT 1 FROM message WHERE message.thread_id = $1)",
                (thread_id,),
            ),
        )
        return len(messages) < AT_ONCE

    async def _answers(self, which: str, value: str | int) -> list[str]:
        rows = await self._db.query(
            f"SELECT id FROM generation WHERE {which} AND {_ENDED} AND finished_at <= $3 LIMIT $2",
            value,
            AT_ONCE,
            now_ms() - SETTLED_MS,
        )
        return [str(row["id"]) for row in rows]


def deleted_with(user_id: str) -> Statement:
    """Deletes all threads of a person, as `Threads.delete` does one."""
    return Statement("UPDATE thread SET deleted_at = $2 WHERE user_id = $1 AND deleted_at IS NULL", (user_id, now_ms()))
