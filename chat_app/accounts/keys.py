"""API keys: how a program proves for whom it asks. It does not know what the program asks."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from chat_app.accounts.emails import normal_name
from chat_app.accounts.identity import COLUMNS, AccountError, Identity
from chat_app.accounts.tokens import SHOWN, digest, is_key, new_key
from chat_app.data.db.base import Database, DatabaseUnavailable, Statement, Unmet
from chat_app.data.ids import new_id, now_ms

MOST_KEYS = 100
NOTED_MS = 60_000
"""How exact `last_used_at` is: noting every call would cost a write each."""

_BY_KEY = (
    f"SELECT k.id AS key_id, k.last_used_at, {COLUMNS} FROM api_key k JOIN users u ON u.id = k.user_id"
    " WHERE k.digest = $1 AND k.revoked_at IS NULL AND u.disabled_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner sees it: `prefix` is its readable beginning. Times in milliseconds UTC."""

    id: str
    name: str
    prefix: str
    created_at: int
    last_used_at: int | None


class Keys:
    """The `api_key` table."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._notes: set[asyncio.Task[None]] = set()

    async def by_key(self, key: str) -> Identity | None:
        """Whose key it is, as of now: one query, nothing cached. None if unknown, revoked, or of a disabled
        account."""
        if not is_key(key):
            return None
        rows = await self._db.query(_BY_KEY, digest(key))
        if not rows:
            return None
        row, now = rows[0], now_ms()
        if now - (row["last_used_at"] or 0) > NOTED_MS:
            # Beside the request: a call that only reads should neither wait for a write nor fail with it.
            note = asyncio.create_task(self._note_use(row["key_id"], now))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        return Identity.from_row(row)

    async def make_key(self, user_id: str, name: str = "") -> str:
        """A new key. Only its hash is kept, so it can be shown this once. Raises `AccountError`."""
        key, name = new_key(), normal_name(name, "API key")
        try:
            await self._db.batch(
                Statement("SELECT id FROM users WHERE id = $1", (user_id,), must="not_found"),
                Statement(
                    "INSERT INTO api_key (id, user_id, name, prefix, digest, created_at)"
                    " SELECT $1, u.id, $3, $4, $5, CAST($6 AS BIGINT) FROM users u WHERE u.id = $2"
                    " AND (SELECT COUNT(*) FROM api_key k WHERE k.user_id = $2 AND k.revoked_at IS NULL)"
                    f" < {MOST_KEYS}",
                    (new_id(), user_id, name, key[:SHOWN], digest(key), now_ms()),
                    must="too_many_keys",
                ),
            )
        except Unmet as unmet:
            if unmet.name == "not_found":
                raise AccountError("not_found", "There is no such account.") from unmet
            raise AccountError("too_many_keys", f"An account can have {MOST_KEYS} keys. Revoke one first.") from unmet
        return key

    async def keys(self, user_id: str) -> list[Key]:
        """The person's keys that are in force, newest first."""
        rows = await self._db.query(
            "SELECT id, name, prefix, created_at, last_used_at FROM api_key"
            " WHERE user_id = $1 AND revoked_at IS NULL ORDER BY created_at DESC, id DESC",
            user_id,
        )
        return [Key(**dict(row)) for row in rows]

    async def revoke_key(self, user_id: str, key_id: str) -> None:
        """End one of the person's keys; the next request with it is refused. Raises `AccountError`
        (not_found)."""
        revoke = "UPDATE api_key SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL"
        try:
            await self._db.batch(Statement(revoke, (key_id, user_id, now_ms()), must="not_found"))
        except Unmet as unmet:
            raise AccountError("not_found", "There is no such key, or it was revoked already.") from unmet

    async def _note_use(self, key_id: str, at: int) -> None:
        update = "UPDATE api_key SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2"
        with suppress(DatabaseUnavailable):  # Then the next call notes it.
            await self._db.batch(Statement(update, (key_id, at)))
