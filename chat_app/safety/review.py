"""The queue of refusals that a person looks at, and what they decided.

A refusal is recorded in the transaction that ends its turn: with its text, or, where many of the same person and kind
wait already, as one more of the newest of them, so that nobody can bury what others wait for. A decision changes no
turn: it says whether the rule was right, so that rules can be corrected. It does not know rules, nor who may see the
queue.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from chat_app.data.acts import Act, By, Recorder, Unrecorded
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.data.tables.safety import Review
from chat_app.data.tables.sessions import IN_DELETED_THREAD, in_deleted_thread
from chat_app.safety.masking import Masked
from chat_app.safety.review_page import LONGEST_EXCERPT, LONGEST_KEPT, LONGEST_NOTE, PAGE, ReviewPage, read_page
from chat_app.safety.verdict import Verdict

__all__ = ["DECISIONS", "LONGEST_EXCERPT", "LONGEST_NOTE", "PAGE", "Decision", "ReviewError", "Reviews", "excerpt"]

Decision = Literal["upheld", "overturned"]
DECISIONS: tuple[Decision, ...] = ("upheld", "overturned")


def excerpt(text: str, start: int, end: int) -> str:
    """What a refusal was about: the text around its part [start, end), with a mark where more was cut off, and one in
    place of every key."""
    kept = Masked.of(text)
    text, start, end = kept.text, kept.at(start), kept.at(end)
    first = max(0, min(start, (start + end - LONGEST_EXCERPT) // 2, len(text) - LONGEST_EXCERPT))
    last = first + LONGEST_EXCERPT
    return f"{'…' if first else ''}{text[first:last]}{'…' if last < len(text) else ''}"


MOST_WAITING = 20
"""Refusals of one person and category that wait with their texts; further ones are only counted."""

_OF_THEIRS = f"w.user_id = $3 AND w.category = $6 AND w.decision IS NULL AND NOT {in_deleted_thread('w')}"
# Two at once may both find room: the bound is there against thousands, not against one more.
_REFUSAL = (
    "INSERT INTO review"
    " (id, tenant_id, user_id, generation_id, stage, category, rule, content, created_at, note, further)"
    " SELECT COALESCE((SELECT w.id FROM review w WHERE " + _OF_THEIRS + f" AND {MOST_WAITING} <="
    " (SELECT COUNT(*) FROM review w WHERE " + _OF_THEIRS + ") ORDER BY w.created_at DESC, w.id DESC LIMIT 1), $1),"
    " $2, $3, $4, $5, $6, $7, $8, CAST($9 AS BIGINT), '', 0 WHERE TRUE"
    " ON CONFLICT (id) DO UPDATE SET further = review.further + 1"
)


class ReviewError(Exception):
    """The decision cannot be recorded. `code` is not_found, decided or bad_decision; the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Reviews:
    """The review queue of one installation."""

    def __init__(self, db: Database, audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()

    def refusal(self, tenant_id: str, user_id: str, generation_id: str, verdict: Verdict, content: str) -> Statement:
        """Put a refusal into the queue, with an `excerpt` of the text that it is about, whose end is cut off if it is
        none; where `MOST_WAITING` of this person's and category's wait, it is counted on the newest."""
        return Statement(
            _REFUSAL,
            (
                new_id(),
                tenant_id,
                user_id,
                generation_id,
                verdict.stage,
                verdict.category,
                verdict.rule,
                content.replace("\x00", "")[:LONGEST_KEPT],
                now_ms(),
            ),
        )

    def remove(self, generation_ids: Sequence[str]) -> Statement:
        """Forget the refusals of these generations, decided or not."""
        places = ", ".join(f"${n}" for n in range(1, len(generation_ids) + 1))
        return Statement(f"DELETE FROM review WHERE generation_id IN ({places})", tuple(generation_ids))

    async def page(self, *, decided: bool = False, at: str = "") -> ReviewPage:
        """A page of the refusals that wait, or of those that are decided: the first, or the one that another named."""
        return await read_page(self._db, decided=decided, at=at, limit=PAGE)

    async def waiting(self, limit: int = 50) -> list[Review]:
        """Refusals without a decision, the oldest first."""
        return (await read_page(self._db, decided=False, at="", limit=limit)).reviews

    async def decided(self, limit: int = 50) -> list[Review]:
        """Refusals with a decision, the latest decision first."""
        return (await read_page(self._db, decided=True, at="", limit=limit)).reviews

    async def looked(self, reviews: Sequence[Review], by: By) -> None:
        """Record that somebody is about to see these refusals, with what was refused: of whom, and which. Before they
        do, so that nobody looks without an entry. Raises `DatabaseUnavailable`."""
        for at in range(0, len(reviews), PAGE):
            shown = reviews[at : at + PAGE]
            people = sorted({review.user_id for review in shown})
            seen = {"of": people, "reviews": [review.id for review in shown]}
            await self._audit.record(Act("review_look", by, "review", details=seen))

    async def decide(self, review_id: str, decision: str, by: str, note: str = "", *, address: str = "") -> None:
        """Record a person's decision, once. `by` is their user id. Raises `ReviewError`."""
        if decision not in DECISIONS:
            raise ReviewError("bad_decision", f"A refusal is either {' or '.join(DECISIONS)}.")
        if len(note) > LONGEST_NOTE:
            raise ReviewError("bad_decision", f"A note has at most {LONGEST_NOTE:,} characters.")
        act = Act("review_decide", By(by, address), "review", review_id, details={"decision": decision})
        with suppress(Unmet):
            await self._db.batch(
                Statement(
                    "UPDATE review SET decision = $2, decided_by = $3, decided_at = $4, note = $5"
                    f" WHERE id = $1 AND decision IS NULL AND NOT {IN_DELETED_THREAD}",
                    (review_id, decision, by, now_ms(), note.replace("\x00", "").strip()),
                    must="waiting",
                ),
                *self._audit.statements(act),
            )
            return
        known = await self._db.query(f"SELECT 1 FROM review WHERE id = $1 AND NOT {IN_DELETED_THREAD}", review_id)
        if known:
            raise ReviewError("decided", "Somebody has decided this one already. Reload the page.")
        raise ReviewError("not_found", "This refusal is no longer in the queue.")
