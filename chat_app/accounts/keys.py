"""API keys: how a program proves for whom it asks. It does not know what the program asks."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from chat_app.accounts.emails import normal_name
from chat_app.accounts.grant import DAY_MS, RIGHTS, Grant, Rights
from chat_app.accounts.identity import COLUMNS, AccountError, Identity
from chat_app.accounts.tokens import SHOWN, digest, is_key, new_key
from chat_app.data.acts import Act, By, Detail, Recorder, Unrecorded
from chat_app.data.db.base import Database, DatabaseUnavailable, Statement, Unmet
from chat_app.data.ids import new_id, now_ms

MOST_KEYS = 100
NOTED_MS = 60_000
"""How exact `last_used_at` is: noting every call would cost a write each."""
LONGEST_OVERLAP_MS = 30 * DAY_MS
"""How long a secret may serve beside the one that replaces it."""

_RIGHTS = ", ".join(f"k.{column}" for column in RIGHTS)
_UNENDED = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now})"
_IN_FORCE = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > {now}) AND u.disabled_at IS NULL"
_GRANT = (
    f"SELECT k.id AS key_id, k.last_used_at, {_RIGHTS}, {COLUMNS} FROM api_key k JOIN users u ON u.id = k.user_id"
    f" WHERE {_IN_FORCE.format(now='$2')} AND"
)
_BY_SECRET, _BY_FORMER = f"{_GRANT} k.digest = $1", f"{_GRANT} k.former_digest = $1 AND k.former_until > $2"
_SHOWN = ("id", "name", "prefix", "created_at", "last_used_at", "former_until")
_WORDS = {
    "not_found": "There is no such account.",
    "too_many_keys": f"An account can have {MOST_KEYS} keys. Revoke one first.",
    "bad_key": "Only staff and administrators can make a key with the scope “admin”.",
}
_NOT_MINE = {
    "not_found": "There is no such key, or it was revoked already.",
    "former_serves": "The former secret of this key still serves; a new one now would end it at once.",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner sees it: `prefix` is its readable beginning. Times in milliseconds UTC.

    Until `former_until` the secret that it had before serves as well.
    """

    id: str
    name: str
    prefix: str
    created_at: int
    last_used_at: int | None
    former_until: int | None
    rights: Rights

    @property
    def expired(self) -> bool:
        return self.rights.expires_at is not None and self.rights.expires_at <= now_ms()


class Keys:
    """The `api_key` table."""

    def __init__(self, db: Database, audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()
        self._notes: set[asyncio.Task[None]] = set()

    async def by_key(self, key: str) -> Identity | None:
        """Whose key it is, as of now. None for one that is not in force."""
        grant = await self.grant(key)
        return grant.identity if grant is not None else None

    async def grant(self, key: str) -> Grant | None:
        """What this key allows as of now: one query, a second one if it is none or a former secret; none is cached.
        None if it is unknown, expired, revoked, or of a disabled account."""
        if not is_key(key):
            return None
        now = now_ms()
        secret = digest(key)
        rows = await self._db.query(_BY_SECRET, secret, now) or await self._db.query(_BY_FORMER, secret, now)
        if not rows:
            return None
        row = rows[0]
        if now - (row["last_used_at"] or 0) > NOTED_MS:
            # Beside the request: a call that only reads should neither wait for a write nor fail with it.
            note = asyncio.create_task(self._note_use(row["key_id"], now))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        return Grant(Identity.from_row(row), row["key_id"], Rights.from_row(row), secret)

    async def in_force(self, secrets: Collection[str]) -> set[str]:
        """Those of these secrets, by their digests, that are in force now, as a key's present or former one."""
        places = ", ".join(f"${n}" for n in range(2, 2 + len(secrets)))
        rows = await self._db.query(
            "SELECT k.digest, CASE WHEN k.former_until > $1 THEN k.former_digest END AS former"
            " FROM api_key k JOIN users u ON u.id = k.user_id"
            f" WHERE {_IN_FORCE.format(now='$1')} AND (k.digest IN ({places}) OR k.former_digest IN ({places}))",
            now_ms(),
            *secrets,
        )
        return {secret for row in rows for secret in (row["digest"], row["former"])} & set(secrets)

    async def make_key(
        self, user_id: str, name: str = "", rights: Rights | None = None, *, by: By | None = None
    ) -> str:
        """A new key. Only its hash is kept, so it can be shown this once. `by`: its owner, unless said. Raises
        `AccountError`."""
        id, by = new_id(), by or By(user_id)
        key, name, rights = new_key(), normal_name(name, "API key"), (rights or Rights()).checked()
        may = " AND u.role IN ('staff', 'admin')" if "admin" in rights.scopes else ""
        try:
            await self._db.batch(
                Statement("SELECT id FROM users WHERE id = $1", (user_id,), must="not_found"),
                Statement(f"SELECT u.id FROM users u WHERE u.id = $1{may}", (user_id,), must="bad_key"),
                Statement(
                    f"INSERT INTO api_key (id, user_id, name, prefix, digest, created_at, {', '.join(RIGHTS)})"
                    f" SELECT $1, u.id, $3, $4, $5, CAST($6 AS BIGINT), $7, $8,"
                    " CAST($9 AS BIGINT), CAST($10 AS BIGINT), CAST($11 AS BIGINT) FROM users u"
                    f" WHERE u.id = $2{may}"
                    f" AND (SELECT COUNT(*) FROM api_key k WHERE k.user_id = $2 AND {_UNENDED.format(now='$6')})"
                    f" < {MOST_KEYS}",
                    (id, user_id, name, key[:SHOWN], digest(key), now_ms(), *rights.values),
                    must="too_many_keys",
                ),
                *self._audit.statements(Act("key_create", by, "key", id, details=_figures(user_id, rights))),
            )
        except Unmet as unmet:
            raise AccountError(unmet.name, _WORDS[unmet.name]) from unmet
        return key

    async def rotate_key(
        self, user_id: str, key_id: str, overlap_ms: int, *, end_former: bool = False, by: By | None = None
    ) -> str:
        """A new secret for the same key; the one that it has serves for `overlap_ms` beside it, and what still runs
        with it then ends within a second. A key has one former secret: while it serves it is not replaced, unless
        `end_former` says that it ends at once. Raises `AccountError` (bad_key, not_found, former_serves)."""
        if not 0 <= overlap_ms <= LONGEST_OVERLAP_MS:
            raise AccountError("bad_key", "A former secret can serve for up to 30 days.")
        key, now = new_key(), now_ms()
        whole = f"id = $1 AND user_id = $2 AND {_UNENDED.format(now='$3')}"
        serves = "" if end_former else " AND COALESCE(former_until, 0) <= $3"
        await self._mine(
            Statement(f"SELECT id FROM api_key WHERE {whole}", (key_id, user_id, now), must="not_found"),
            Statement(
                "UPDATE api_key SET former_digest = digest, former_until = $6, digest = $4, prefix = $5"
                f" WHERE {whole}{serves}",
                (key_id, user_id, now, digest(key), key[:SHOWN], now + overlap_ms),
                must="former_serves",
            ),
            *self._audit.statements(
                Act("key_rotate", by or By(user_id), "key", key_id, details={"of": user_id, "overlap_ms": overlap_ms})
            ),
        )
        return key

    async def forget_keys(self, ended_before_ms: int) -> int:
        """Remove the keys that were revoked or expired before this moment; how many there were."""
        some = "SELECT id FROM api_key WHERE revoked_at < $1 OR expires_at < $1 LIMIT 1000"
        remove = Statement(f"DELETE FROM api_key WHERE id IN ({some}) RETURNING id", (ended_before_ms,))
        removed = 0
        while gone := (await self._db.batch(remove))[0]:
            removed += len(gone)
        return removed

    async def keys(self, user_id: str) -> list[Key]:
        """The person's keys that were not revoked, newest first."""
        rows = await self._db.query(
            f"SELECT {', '.join(f'k.{name}' for name in _SHOWN)}, {_RIGHTS} FROM api_key k"
            " WHERE k.user_id = $1 AND k.revoked_at IS NULL ORDER BY k.created_at DESC, k.id DESC",
            user_id,
        )
        return [Key(**{name: row[name] for name in _SHOWN}, rights=Rights.from_row(row)) for row in rows]

    async def revoke_key(self, user_id: str, key_id: str, *, by: By | None = None) -> None:
        """End one of the person's keys; the next request with it is refused, and what it runs ends within a second.
        Raises `AccountError` (not_found)."""
        revoke = "UPDATE api_key SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL"
        act = Act("key_revoke", by or By(user_id), "key", key_id, details={"of": user_id})
        await self._mine(Statement(revoke, (key_id, user_id, now_ms()), must="not_found"), *self._audit.statements(act))

    async def _mine(self, *statements: Statement) -> None:
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise AccountError(unmet.name, _NOT_MINE[unmet.name]) from unmet

    async def _note_use(self, key_id: str, at: int) -> None:
        update = "UPDATE api_key SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2"
        with suppress(DatabaseUnavailable):  # Then the next call notes it.
            await self._db.batch(Statement(update, (key_id, at)))


def _figures(user_id: str, rights: Rights) -> dict[str, Detail]:
    """What the audit trail keeps of a new key."""
    return {
        "of": user_id,
        "scopes": rights.scopes,
        "models": len(rights.models),
        "monthly_tokens": rights.monthly_tokens,
        "requests_per_minute": rights.requests_per_minute,
        "expires_at": rights.expires_at,
    }


def revoke_all(user_id: str) -> Statement:
    """Ends every key of the person."""
    revoke = "UPDATE api_key SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL"
    return Statement(revoke, (user_id, now_ms()))


def anonymised(user_id: str) -> Statement:
    """Ends every key of the person, and takes the names from them that the person gave."""
    end = "UPDATE api_key SET revoked_at = COALESCE(revoked_at, $2), name = '' WHERE user_id = $1"
    return Statement(end, (user_id, now_ms()))
