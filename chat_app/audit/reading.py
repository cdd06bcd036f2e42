"""Entries a page at a time, the newest first, by who, what, on what, when and how it ended.

A page begins beside an entry and not at a number: what comes meanwhile moves nothing. It does not know who reads.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson

from chat_app.data.db.base import Database, Row, Value

PAGE = 50
_COLUMNS = (
    "id, seq, at, tenant_id, actor, action, object_kind, object_id, outcome, network, details, digest, prev, hash"
)
_PLACE = re.compile(r"([<>])([0-9a-f]{32})")
_BEYOND = "g"
"""Sorts behind every id."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries. Empty or None: whatever it is. `since` and `until` in milliseconds UTC, `until` exclusive."""

    actor: str = ""
    object: str = ""
    action: str = ""
    outcome: str = ""
    since: int | None = None
    until: int | None = None

    def condition(self, first: int) -> tuple[str, list[Value]]:
        """As SQL whose parameters begin with number `first`, and their values."""
        asked: list[tuple[str, Value]] = [
            ("actor =", self.actor or None),
            ("object_id =", self.object or None),
            ("action =", self.action or None),
            ("outcome =", self.outcome or None),
            ("at >=", self.since),
            ("at <", self.until),
        ]
        wanted = [(test, value) for test, value in asked if value is not None]
        tests = [f" AND {test} ${number}" for number, (test, _) in enumerate(wanted, first)]
        return "".join(tests), [value for _, value in wanted]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, the newest first; `newer` and `older` name the pages on either side, empty where nothing is."""

    entries: list[Row] = field(default_factory=list)
    newer: str = ""
    older: str = ""


async def read_page(db: Database, wanted: Wanted, at: str = "", limit: int = PAGE) -> AuditPage:
    """The page `at`, a name that another page gave; the newest one for any other text. Each entry has its columns by
    name, `details` as an object."""
    place = _PLACE.fullmatch(at[:64])
    upward, beside = (place[1] == ">", place[2]) if place else (False, _BEYOND)
    tests, values = wanted.condition(2)
    order = "ASC" if upward else "DESC"
    rows = await db.query(
        f"SELECT {_COLUMNS} FROM audit WHERE id {'>' if upward else '<'} $1{tests} ORDER BY id {order}"
        f" LIMIT {int(limit) + 1}",
        beside,
        *values,
    )
    found, more = list(rows[:limit]), len(rows) > limit
    if not found:
        return await read_page(db, wanted, "", limit) if place else AuditPage()
    if upward:
        found.reverse()
    has_newer, has_older = (more, True) if upward else (place is not None, more)
    return AuditPage(
        [_read(row) for row in found],
        newer=f">{found[0]['id']}" if has_newer else "",
        older=f"<{found[-1]['id']}" if has_older else "",
    )


async def everything(db: Database, wanted: Wanted) -> AsyncIterator[Row]:
    """Every entry that is wanted, the oldest first."""
    after, page = "", 500
    tests, values = wanted.condition(2)
    sql = f"SELECT {_COLUMNS} FROM audit WHERE id > $1{tests} ORDER BY id LIMIT {page}"
    while rows := await db.query(sql, after, *values):
        for row in rows:
            yield _read(row)
        after = rows[-1]["id"]


def _read(row: Row) -> Row:
    return {**row, "details": orjson.loads(row["details"])}
