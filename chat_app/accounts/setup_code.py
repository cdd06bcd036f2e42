"""The code that makes the first account, the administrator's, where others than its owner could reach the page first.

It is made at the first start, stays the same at the next and on every replica, and is gone with the first account.
"""

import hmac

from chat_app.accounts.typed_codes import new_code, normal
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms

_GROUPS = 5
"""98 bits."""


class SetupCode:
    """The `setup_code` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def current(self) -> str | None:
        """The code, made now if need be; None once there is an account."""
        await self._db.batch(
            Statement(
                "INSERT INTO setup_code (id, code, created_at) SELECT 'first', $1, CAST($2 AS BIGINT)"
                " WHERE NOT EXISTS (SELECT 1 FROM users) ON CONFLICT (id) DO NOTHING",
                (new_code(_GROUPS), now_ms()),
            )
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
