"""Refusals a page at a time, from any place on, however many there are and however long their texts once were.

A page begins beside a refusal and not at a number: what comes or goes meanwhile moves nothing. What was refused in a
chat that has been deleted is on none. It does not know who reads.
"""

import re
from dataclasses import dataclass

from chat_app.data.db.base import Database
from chat_app.data.tables.safety import Review
from chat_app.data.tables.sessions import IN_DELETED_THREAD

PAGE = 25
LONGEST_NOTE = 2_000
LONGEST_EXCERPT = 4_000
"""Characters of a refused text that are kept: enough to judge it, and a page of refusals stays small."""
LONGEST_KEPT = LONGEST_EXCERPT + 2
"""The same with the marks of what was cut off at either end."""

_COLUMNS = (
    "id, tenant_id, user_id, generation_id, stage, category, rule, created_at, further, decision, decided_by,"
    " decided_at,"
    # Older releases kept whole texts, of megabytes.
    f" SUBSTR(content, 1, {LONGEST_KEPT}) AS content, SUBSTR(note, 1, {LONGEST_NOTE}) AS note"
)
_PLACE = re.compile(r"([<>])([0-9]{1,15})\.([0-9a-f]{32})")
_BEGINNING, _END = (-1, ""), (2**62, "")


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """Some refusals, those that wait the oldest first, those that are decided the latest decision first. `newer` and
    `older` name the pages on either side; empty where nothing is."""

    reviews: list[Review]
    newer: str = ""
    older: str = ""


async def read_page(db: Database, *, decided: bool, at: str, limit: int) -> ReviewPage:
    """The page `at`, a name that another page gave; the first one for any other text."""
    if place := _PLACE.fullmatch(at[:64]):
        newer, beside = place[1] == ">", (int(place[2]), place[3])
    else:
        newer, beside = not decided, _END if decided else _BEGINNING
    key, order = "decided_at" if decided else "created_at", "ASC" if newer else "DESC"
    rows = await db.query(
        f"SELECT {_COLUMNS} FROM review WHERE decision IS {'NOT ' if decided else ''}NULL"
        f" AND NOT {IN_DELETED_THREAD} AND ({key}, id) {'>' if newer else '<'} ($1, $2)"
        f" ORDER BY {key} {order}, id {order} LIMIT $3",
        *beside,
        limit + 1,
    )
    found = [Review(**dict(row)) for row in rows[:limit]]
    if not found:
        return await read_page(db, decided=decided, at="", limit=limit) if place else ReviewPage([])
    if not newer:
        found.reverse()
    more, came = len(rows) > limit, place is not None
    return ReviewPage(
        found[::-1] if decided else found,
        newer=_name(">", found[-1], decided) if (more if newer else came) else "",
        older=_name("<", found[0], decided) if (came if newer else more) else "",
    )


def _name(way: str, review: Review, decided: bool) -> str:
    return f"{way}{review.decided_at if decided else review.created_at}.{review.id}"
