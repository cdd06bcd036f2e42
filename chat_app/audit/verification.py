"""Reads the whole chain and says whether anybody has tampered with it, and where first.

What it can find by itself: an entry that was changed, removed, moved or slipped in, and missing ones at the end as long
as the head's row still counts them. Who can write into the database and knows this code can also write a whole new
chain, or shorten it together with the head: that only a head that was noted elsewhere before brings to light.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_app.audit.chain import WRITTEN, Head, digest_of
from chat_app.audit.sealing import head_of
from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms
from chat_app.data.tables.audit import NOT_SEALED

PAGE = 1_000
_COLUMNS = ", ".join((*WRITTEN, "digest", "seq", "prev", "hash"))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a verification found. `broken` says what is wrong, empty if nothing is; `at` is the first entry's `seq`, 0
    where the fault has none. `waiting` entries are not sealed yet, the oldest for `oldest_ms`."""

    head: Head
    broken: str = ""
    at: int = 0
    waiting: int = 0
    oldest_ms: int = 0


async def verify(db: Database, noted: Head | None = None) -> Finding:
    """Check every entry, and that the chain still passes through the head `noted` earlier. Raises
    `DatabaseUnavailable`."""
    # The head before the entries: what is sealed meanwhile only lies behind it.
    try:
        end = await head_of(db)
    except LookupError as error:
        return Finding(Head(), str(error))
    head, met = Head(), noted is None or noted == Head()
    while rows := await db.query(f"SELECT {_COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT {PAGE}", head.seq):
        for row in rows:
            if fault := _fault(row, head):
                return Finding(head, fault, head.seq + 1)
            head = Head(row["seq"], row["hash"])
            if head.seq == end.seq and head != end:
                return Finding(head, "the chain does not end as the row of its head says", head.seq)
            if noted is not None and head.seq == noted.seq:
                if head != noted:
                    return Finding(head, "this is not the entry whose hash was noted", head.seq)
                met = True
    if head.seq < end.seq:
        return Finding(head, f"missing at the end: the row of the head counts {end.seq:,} entries", head.seq + 1)
    now = await head_of(db)
    if now.seq < head.seq or (now.seq == head.seq and now != head):
        return Finding(head, "slipped in: the row of the head does not count it", now.seq + 1)
    if not met:
        return Finding(head, "missing at the end: the chain is shorter than the head that was noted", head.seq + 1)
    return await _waiting(db, head)


def _fault(row: Mapping[str, Any], head: Head) -> str:
    """What is wrong with the entry that should follow `head`."""
    if row["seq"] != head.seq + 1:
        return "missing"
    if digest_of(row) != row["digest"]:
        return "changed after it was written"
    if row["prev"] != head.hash or row["hash"] != head.next(row["digest"]).hash:
        return "not the entry that was sealed in this place"
    return ""


async def _waiting(db: Database, head: Head) -> Finding:
    """What is not sealed yet: not in the chain, but each entry's digest is."""
    count, oldest, after = 0, 0, ""
    while rows := await db.query(
        f"SELECT {_COLUMNS} FROM audit WHERE {NOT_SEALED} AND id > $1 ORDER BY id LIMIT {PAGE}", after
    ):
        for row in rows:
            if digest_of(row) != row["digest"]:
                return Finding(head, f"changed before it was sealed: the entry {row['id']}")
        count, oldest, after = count + len(rows), oldest or rows[0]["at"], rows[-1]["id"]
    return Finding(head, waiting=count, oldest_ms=max(0, now_ms() - oldest) if count else 0)
