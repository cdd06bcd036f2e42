"""The code that makes the first account, the administrator's: it proves that a visitor reads what Parley prints.

Where a request comes from proves nothing: what a proxy or a tunnel on this machine passes on comes from this machine,
and every header is whatever the caller wrote. The code is made at the first start, stays the same at the next and on
every replica, and is gone with the first account.
"""

import hmac

from chat_app.accounts.typed_codes import new_code, normal
from chat_app.data.acts import BY_OPERATOR, Act, Recorder, Unrecorded
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms

_GROUPS = 5
"""98 bits."""


class SetupCode:
    """The `setup_code` table."""

    def __init__(self, db: Database, audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()

    async def current(self) -> str | None:
        """The code, made now if need be, for whoever runs Parley; None once there is an account."""
        await self._db.batch(
            Statement(
                "INSERT INTO setup_code (id, code, created_at) SELECT 'first', $1, CAST($2 AS BIGINT)"
                " WHERE NOT EXISTS (SELECT 1 FROM users) ON CONFLICT (id) DO NOTHING",
                (new_code(_GROUPS), now_ms()),
            ),
            *self._audit.statements(Act("setup_code", BY_OPERATOR), "NOT EXISTS (SELECT 1 FROM users)"),
        )
        return await self._kept()

    async def is_right(self, given: str) -> bool:
        """Whether this is the code, however it was typed. False if none was made, or once there is an account."""
        code = await self._kept()
        return code is not None and hmac.compare_digest(normal(given).encode(), normal(code).encode())

    async def _kept(self) -> str | None:
        rows = await self._db.query("SELECT code FROM setup_code WHERE NOT EXISTS (SELECT 1 FROM users)")
        return str(rows[0]["code"]) if rows else None


def spent() -> Statement:
    """The code ends, in the same transaction that makes an account."""
    return Statement("DELETE FROM setup_code")
