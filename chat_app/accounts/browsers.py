"""Browser sessions: who is signed in with one, how long it lasts, and how it ends.

A session ends at `expires_at`, or when it was not used for a while, or when somebody ends it. It does not know how one
is begun, nor what somebody may do in it.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from chat_app.accounts import attempts
from chat_app.accounts.attempts import Hit, Limit, admit
from chat_app.accounts.identity import COLUMNS, AccountError, Identity
from chat_app.accounts.passwords import Passwords
from chat_app.accounts.refusals import reported
from chat_app.accounts.tokens import digest, is_token
from chat_app.data.acts import Act, By, Recorder
from chat_app.data.db.base import Database, DatabaseUnavailable, Row, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.settings import Settings

PROOF_MS = 15 * 60_000
"""How long a session may do what asks for the password, after it was shown."""
NOTED_MS = 60_000
"""How exact `seen_at` is: noting every event would cost a write each."""
MOST_LISTED = 50
_HOUR_MS = 3_600_000
_AT_ONCE = 500
"""Sessions that one query asks about."""

_OF = "browser_session s JOIN users u ON u.id = s.user_id WHERE"
# A release before this one notes no use: then the session counts from its beginning.
_USED_AT = "CASE WHEN s.seen_at = 0 THEN s.created_at ELSE s.seen_at END"
_IN_FORCE = f"s.expires_at > $1 AND {_USED_AT} > $2 AND u.disabled_at IS NULL"


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A session as its owner sees it. `id` is its token's digest, which opens nothing; times in milliseconds UTC."""

    id: str
    browser: str
    created_at: int
    seen_at: int


class Browsers:
    """The `browser_session` table."""

    _audit: Recorder

    def __init__(self, db: Database, settings: Settings, passwords: Passwords) -> None:
        self._db = db
        self._idle_ms = settings.session_idle_hours * _HOUR_MS
        self._passwords = passwords
        self._uses: set[asyncio.Task[None]] = set()

    async def by_cookie(self, token: str, *, used: bool = False) -> Identity | None:
        """Who is signed in with this token now: one query. None if it is unknown, has ended, or the account is
        disabled. `used`: a person did something, so the session does not end for want of use."""
        row = await self._found(token, f"{COLUMNS}, s.seen_at")
        if row is None:
            return None
        now = now_ms()
        if used and now - row["seen_at"] > NOTED_MS:
            # Beside the event: one that only reads should neither wait for a write nor fail with it.
            note = asyncio.create_task(self._note_browser(digest(token), now))
            self._uses.add(note)
            note.add_done_callback(self._uses.discard)
        return Identity.from_row(row)

    async def ended(self, sessions: Collection[str]) -> set[str]:
        """Those of these sessions, by their ids, that nobody is signed in with any more."""
        return set(sessions) - (await self.roles(sessions)).keys()

    async def roles(self, sessions: Collection[str]) -> dict[str, str]:
        """The role of who is signed in with each of these sessions, by their ids; of those in force."""
        found, asked = {}, sorted(sessions)
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            places = ", ".join(f"${number}" for number in range(3, len(part) + 3))
            sql = f"SELECT s.id, u.role FROM {_OF} {_IN_FORCE} AND s.id IN ({places})"
            found.update({row["id"]: row["role"] for row in await self._db.query(sql, *self._moments(), *part)})
        return found

    async def browsers(self, user_id: str) -> list[BrowserSession]:
        """The person's sessions that are in force, the one used last first, `MOST_LISTED` at most."""
        columns = "s.id, s.browser, s.created_at, s.seen_at"
        rows = await self._db.query(
            f"SELECT {columns} FROM {_OF} {_IN_FORCE} AND u.id = $3"
            f" ORDER BY s.seen_at DESC, s.created_at DESC, s.id LIMIT {MOST_LISTED}",
            *self._moments(),
            user_id,
        )
        return [BrowserSession(row["id"], row["browser"], row["created_at"], row["seen_at"]) for row in rows]

    async def end_browser(self, user_id: str, session_id: str, *, address: str = "") -> None:
        """End one of the person's sessions, if it is there still."""
        act = Act("sign_out", By(user_id, address), "account", user_id, details={"sessions": "another"})
        end = "DELETE FROM browser_session WHERE id = $1 AND user_id = $2"
        with suppress(Unmet):
            await self._db.batch(Statement(end, (session_id, user_id), must="ended"), *self._audit.statements(act))

    async def end_other_browsers(self, user_id: str, keep: str, *, address: str = "") -> int:
        """End all of the person's sessions but the one with the token `keep`; how many there were."""
        others = "SELECT id FROM browser_session WHERE user_id = $1 AND id <> $2 LIMIT 1"
        if not await self._db.query(others, user_id, digest(keep)):
            return 0
        act = Act("sign_out", By(user_id, address), "account", user_id, details={"sessions": "others"})
        end = Statement(
            "DELETE FROM browser_session WHERE user_id = $1 AND id <> $2 RETURNING id", (user_id, digest(keep))
        )
        return len((await self._db.batch(end, *self._audit.statements(act)))[0])

    async def sign_out(self, token: str, *, address: str = "") -> None:
        """End the session with this token, if there is one."""
        session = digest(token)
        for row in await self._db.query("SELECT user_id FROM browser_session WHERE id = $1", session):
            act = Act("sign_out", By(row["user_id"], address), "account", row["user_id"])
            end = Statement("DELETE FROM browser_session WHERE id = $1", (session,), must="ended")
            with suppress(Unmet):  # It has ended meanwhile, and whoever ended it has recorded that.
                await self._db.batch(end, *self._audit.statements(act))

    async def is_proven(self, token: str) -> bool:
        """Whether the password was shown in this session within `PROOF_MS`."""
        row = await self._found(token, "s.proved_at")
        return row is not None and row["proved_at"] > now_ms() - PROOF_MS

    async def has_short_password(self, token: str) -> bool:
        """Whether the session was begun with a password that is too short to be chosen today."""
        row = await self._found(token, "s.short_password")
        return row is not None and row["short_password"] > 0

    async def prove(self, token: str, password: str, *, address: str = "", hit: Hit | None = None) -> None:
        """The person of this session shows their password again. `hit` bounds the attempts, as for `sign_in`: who
        holds a session need not know it. Raises `AccountError` (bad_credentials, too_many_attempts, busy)."""
        row = await self._found(token, "s.id, u.id AS user_id")
        if row is None:
            raise AccountError("bad_credentials", "The password is not right.")
        async with reported(self._audit, "password_proof", row["user_id"], address):
            if not await self._is_password(row["user_id"], password, address, hit):
                raise AccountError("bad_credentials", "The password is not right.")
        await self._db.batch(proved(row["id"]))

    async def _is_password(self, user_id: str, password: str, address: str, hit: Hit | None) -> bool:
        """Whether this is the person's password. Anybody may have many accounts: the network `address` counts, and
        waits for its turn as at signing up. Raises `AccountError` (too_many_attempts, busy)."""
        await admit(hit, attempts.from_address(address), Limit(f"password:of:{user_id}", attempts.PER_EMAIL))
        rows = await self._db.query("SELECT password_hash FROM users WHERE id = $1", user_id)
        return await self._passwords.verified(password, rows[0]["password_hash"] if rows else None, address)

    async def _forget_ended(self) -> int:
        """Remove the sessions that ended by themselves; how many there were."""
        some = f"SELECT s.id FROM browser_session s WHERE s.expires_at <= $1 OR {_USED_AT} <= $2 LIMIT 1000"
        remove = Statement(f"DELETE FROM browser_session WHERE id IN ({some}) RETURNING id", self._moments())
        removed = 0
        while gone := (await self._db.batch(remove))[0]:
            removed += len(gone)
        return removed

    async def _found(self, token: str, columns: str) -> Row | None:
        """What a query finds of the session with this token, if it is in force."""
        if not is_token(token):
            return None
        sql = f"SELECT {columns} FROM {_OF} {_IN_FORCE} AND s.id = $3"
        rows = await self._db.query(sql, *self._moments(), digest(token))
        return rows[0] if rows else None

    def _moments(self) -> tuple[int, int]:
        """The parameters of `_IN_FORCE`: now, and since when a session must have been used."""
        now = now_ms()
        return now, now - self._idle_ms

    async def _note_browser(self, session_id: str, at: int) -> None:
        update = "UPDATE browser_session SET seen_at = $2 WHERE id = $1 AND seen_at < $2"
        with suppress(DatabaseUnavailable):  # Then the next event notes it.
            await self._db.batch(Statement(update, (session_id, at)))


def proved(session_id: str) -> Statement:
    """The password was shown in this session now."""
    return Statement("UPDATE browser_session SET proved_at = $2 WHERE id = $1", (session_id, now_ms()))
