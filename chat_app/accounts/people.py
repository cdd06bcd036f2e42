"""Accounts: how they are made, and how a browser signs in and out.

Every method that returns an identity asks the database, so that a revocation or a change of plan is in force
at once. It does not know what an account may do: that is its plan's and its caller's business.
"""

from collections.abc import Awaitable, Callable, Collection

from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import COLUMNS, ROLES, AccountError, Identity
from chat_app.accounts.keys import Keys
from chat_app.accounts.passwords import hashed, outdated, verified
from chat_app.accounts.roster import TENANT, Roster, one_at_a_time
from chat_app.accounts.tokens import digest, is_token, new_token
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.settings import Settings

Hit = Callable[[str, int], Awaitable[int]]
"""`Limits.hit`: counts an event under a key against a number per minute; returns 0, or milliseconds to wait."""

PER_EMAIL, PER_ADDRESS = 10, 60
"""Attempts a minute to sign in to one account, and to sign in or up from one network address."""

_DAY_MS = 86_400_000
_AT_ONCE = 500
"""Sessions that one query asks about."""

_BY_COOKIE = (
    f"SELECT {COLUMNS} FROM browser_session s JOIN users u ON u.id = s.user_id"
    " WHERE s.id = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL"
)

# The role is decided inside the insert, behind `one_at_a_time`: of two first accounts at once, one is admin.
_INSERT = (
    "INSERT INTO users (id, tenant_id, email, name, password_hash, role, plan_id, created_at)"
    " SELECT $1, t.id, $3, $4, $5, CASE WHEN EXISTS (SELECT 1 FROM users) THEN $6 ELSE 'admin' END,"
    " CASE WHEN EXISTS (SELECT 1 FROM users) THEN $7 ELSE COALESCE((SELECT id FROM plan WHERE id = $9), $7) END,"
    " CAST($8 AS BIGINT) FROM tenant t WHERE t.id = $2{condition} ON CONFLICT (email) DO NOTHING"
)


class Accounts(Keys, Roster):
    """Everything about accounts, over one database. Keys and other people are in `Keys` and `Roster`."""

    def __init__(self, db: Database, settings: Settings) -> None:
        Keys.__init__(self, db)
        self._settings = settings

    async def create(self, email: str, password: str, name: str = "", role: str = "user") -> Identity:
        """Make an account on the default plan, whatever the sign-up setting says: for administrators.

        The very first account is an administrator's, whatever `role` says, on the plan `first_plan`.

        Raises `AccountError`.
        """
        return await self._insert(email, name, role, await hashed(password), must="email_taken")

    async def sign_up(
        self, email: str, password: str, name: str = "", *, address: str = "", hit: Hit | None = None
    ) -> str:
        """A visitor makes an account and is signed in: returns the token for the browser's cookie.

        When sign-up is closed only the first account can be made. `hit` and `address` as for `sign_in`.
        Raises `AccountError`.
        """
        await _admit(hit, {f"sign-in:from:{address}": PER_ADDRESS})
        must = "email_taken" if self._settings.signup == "open" else "signup_closed"
        if must == "signup_closed" and not await self.is_empty():
            raise _error("signup_closed")  # Without the work of hashing; the insert asks again.
        hash_ = await hashed(password)
        made = await self._insert(email, name, "user", hash_, must=must)
        return await self._open_session(made.user_id, password, hash_)

    async def sign_in(self, email: str, password: str, *, address: str = "", hit: Hit | None = None) -> str:
        """The token for the browser's cookie. Raises `AccountError`.

        An unknown address and a wrong password look alike and take as long. `hit` bounds the attempts per
        account and per network `address`, whether they succeed or not; without it (the command line) they are
        not bounded.
        """
        try:
            email = normal_email(email)
        except AccountError as error:
            raise _error("bad_credentials") from error
        await _admit(hit, {f"sign-in:from:{address}": PER_ADDRESS, f"sign-in:to:{digest(email)}": PER_EMAIL})
        rows = await self._db.query("SELECT id, password_hash, disabled_at FROM users WHERE email = $1", email)
        hash_ = rows[0]["password_hash"] if rows else None
        if not await verified(password, hash_) or hash_ is None:
            raise _error("bad_credentials")
        if rows[0]["disabled_at"] is not None:
            raise AccountError("account_disabled", "This account has been disabled. Ask your administrator.")
        return await self._open_session(rows[0]["id"], password, hash_)

    async def sign_out(self, token: str) -> None:
        """End the browser session with this token, if there is one."""
        await self._db.batch(Statement("DELETE FROM browser_session WHERE id = $1", (digest(token),)))

    async def by_cookie(self, token: str) -> Identity | None:
        """Who is signed in with this token now: one query. None if it is unknown, expired, or the account
        disabled."""
        if not is_token(token):
            return None
        rows = await self._db.query(_BY_COOKIE, digest(token), now_ms())
        return Identity.from_row(rows[0]) if rows else None

    async def ended(self, sessions: Collection[str]) -> set[str]:
        """Those of these sessions, by their tokens' digests, that nobody is signed in with any more."""
        left, asked = set(sessions), sorted(sessions)
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            places = ", ".join(f"${number}" for number in range(2, len(part) + 2))
            sql = f"SELECT s.id FROM browser_session s JOIN users u ON u.id = s.user_id WHERE s.id IN ({places})"
            rows = await self._db.query(f"{sql} AND s.expires_at > $1 AND u.disabled_at IS NULL", now_ms(), *part)
            left.difference_update(row["id"] for row in rows)
        return left

    async def change_password(
        self, user_id: str, current: str, new: str, *, keep: str = "", hit: Hit | None = None
    ) -> None:
        """Set a new password and sign out every browser except the one with the token `keep`. `hit` bounds the
        attempts, as for `sign_in`: who holds a session need not know the password. Raises `AccountError`."""
        await _admit(hit, {f"password:of:{user_id}": PER_EMAIL})
        rows = await self._db.query("SELECT password_hash FROM users WHERE id = $1", user_id)
        if not rows or not await verified(current, rows[0]["password_hash"]):
            raise AccountError("bad_credentials", "The current password is not right.")
        await self.set_password(user_id, new, keep=keep)

    async def set_password(self, user_id: str, new: str, *, keep: str = "") -> None:
        """The same without the current password: for an administrator at the command line. Raises
        `AccountError`."""
        await self._change(
            Statement(
                "UPDATE users SET password_hash = $2 WHERE id = $1",
                (user_id, await hashed(new)),
                must="not_found",
            ),
            Statement("DELETE FROM browser_session WHERE user_id = $1 AND id <> $2", (user_id, digest(keep))),
        )

    async def _insert(self, email: str, name: str, role: str, hash_: str, *, must: str) -> Identity:
        email, plan = normal_email(email), self._settings.default_plan
        name = normal_name(name, email.partition("@")[0][:100])
        if role not in ROLES:
            raise _error("bad_role")
        user = (new_id(), TENANT, email, name, hash_, role, plan, now_ms(), self._settings.first_plan)
        only_first = " AND NOT EXISTS (SELECT 1 FROM users)" if must == "signup_closed" else ""
        try:
            await self._db.batch(
                one_at_a_time(),
                Statement("SELECT id FROM plan WHERE id = $1", (plan,), must="plan_unknown"),
                Statement(_INSERT.format(condition=only_first), user, must=must),
            )
        except Unmet as unmet:
            raise _error(unmet.name, plan=plan) from unmet
        made = await self.by_email(email)
        if made is None:
            raise _error("not_found")
        return made

    async def _open_session(self, user_id: str, password: str, hash_: str) -> str:
        token, now = new_token(), now_ms()
        statements = [
            Statement("DELETE FROM browser_session WHERE user_id = $1 AND expires_at <= $2", (user_id, now)),
            # Only if the password is still the one that was checked.
            Statement(
                "INSERT INTO browser_session (id, user_id, created_at, expires_at)"
                " SELECT $1, u.id, CAST($4 AS BIGINT), CAST($5 AS BIGINT) FROM users u"
                " WHERE u.id = $2 AND u.password_hash = $3",
                (digest(token), user_id, hash_, now, now + self._settings.session_days * _DAY_MS),
                must="bad_credentials",
            ),
        ]
        if outdated(hash_):
            rehash = "UPDATE users SET password_hash = $2 WHERE id = $1"
            statements.append(Statement(rehash, (user_id, await hashed(password))))
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise _error(unmet.name) from unmet
        return token


async def _admit(hit: Hit | None, limits: dict[str, int]) -> None:
    """Raises `AccountError` (too_many_attempts) if one of the limits (key → number per minute) is passed."""
    for key, per_minute in limits.items() if hit else ():
        wait_ms = await hit(key, per_minute) if hit else 0
        if wait_ms:
            seconds = -(-wait_ms // 1000)
            message = f"Too many attempts. Wait {seconds} second{'s'[: seconds != 1]} and try again."
            raise AccountError("too_many_attempts", message, seconds)


_WORDS = {
    "bad_credentials": "The e-mail address or the password is not right.",
    "bad_role": f"A role is one of {', '.join(ROLES)}.",
    "email_taken": "There is an account with this e-mail address already. Sign in instead.",
    "signup_closed": "New accounts are made by the administrator here.",
    "plan_unknown": "New accounts should get the plan {plan}, but there is none. Tell the administrator.",
    "not_found": "There is no such account.",
}


def _error(code: str, **fields: str) -> AccountError:
    return AccountError(code, _WORDS[code].format(**fields))
