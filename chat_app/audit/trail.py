"""The trail as those who act see it: each act becomes one entry, in the transaction that does it.

An entry is written without its place in the chain, so nobody who signs in waits for anybody else; see `sealing`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from chat_app.audit.chain import WRITTEN, digest_of
from chat_app.audit.reading import PAGE, AuditPage, Wanted, read_page
from chat_app.data.acts import ACTIONS, OUTCOMES, TENANT, Act, Detail
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import new_id, now_ms
from chat_app.data.limits.base import LimitsUnavailable

IN_ALL = 600
"""Entries about refusals a minute in the whole installation, however many sources they have."""
MOST_LISTED = 100
_PLAIN = re.compile(r"[A-Za-z0-9_.:/{}*-]{0,64}")
"""What ids, routes and our own words are made of: no blank and no @, so neither a sentence nor an address."""

Hit = Callable[[str, int, int | None], Awaitable[int]]
"""`Limits.hit`: counts an event under a key; returns 0, or milliseconds to wait."""

_COLUMNS = (*WRITTEN, "digest")
_VALUES = ", ".join(
    f"CAST(${n} AS {'BIGINT' if column == 'at' else 'VARCHAR'})" for n, column in enumerate(_COLUMNS, 1)
)
_INSERT = f"INSERT INTO audit ({', '.join(_COLUMNS)}) SELECT {_VALUES}"


class Trail:
    """Writes the `audit` table. A `Recorder`."""

    def __init__(self, db: Database, pseudonym: Callable[[str], str] | None = None, hit: Hit | None = None) -> None:
        """`pseudonym` names a network address so that nobody can turn it back; without it none is noted. `hit` bounds
        refusals; without it (the command line) all are recorded."""
        self._db = db
        self._pseudonym = pseudonym
        self._hit = hit

    def statements(self, act: Act, when: str = "") -> tuple[Statement, ...]:
        """See `Recorder`."""
        row = self._row(act)
        params = (*(row[column] for column in WRITTEN), digest_of(row))
        return (Statement(_INSERT + (f" WHERE {when}" if when else ""), params),)

    async def record(self, act: Act) -> None:
        """See `Recorder`."""
        await self._db.batch(*self.statements(act))

    async def page(self, wanted: Wanted, at: str = "", limit: int = PAGE) -> AuditPage:
        """See `read_page`."""
        return await read_page(self._db, wanted, at, limit)

    async def has_room(self, source: str, per_minute: int) -> bool:
        """See `Recorder`."""
        if self._hit is None:
            return True
        with suppress(LimitsUnavailable):  # Rather too many entries than none.
            if await self._hit(f"audit:of:{source}", per_minute, per_minute):
                return False
            return not await self._hit("audit:refusals", IN_ALL, IN_ALL)
        return True

    def _row(self, act: Act) -> dict[str, Any]:
        if act.action not in ACTIONS or act.outcome not in OUTCOMES:
            raise ValueError(f"{act.action}, {act.outcome}: the trail knows no such act")
        address = act.by.address
        return {
            "id": new_id(),
            "at": now_ms(),
            "tenant_id": TENANT,
            "actor": _plain(act.by.actor),
            "action": act.action,
            "object_kind": act.kind,
            "object_id": _plain(act.id),
            "outcome": act.outcome,
            "network": self._pseudonym(address) if self._pseudonym and address else "",
            "details": orjson.dumps(_details(act.details)).decode(),
        }


def _details(details: Mapping[str, Detail]) -> dict[str, Any]:
    """Ids and figures as they are; of a text that is anything else, that there was one."""
    return {name: _kept(value) for name, value in details.items()}


def _kept(value: Detail) -> Any:
    if value is None or isinstance(value, int):
        return value
    return _plain(value) if isinstance(value, str) else [_plain(one) for one in value[:MOST_LISTED]]


def _plain(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else "?"
