"""Accounts: how they are made, and how a browser signs in and out.

Every method that returns an identity asks the database, so that a revocation or a change of plan is in force
at once. It does not know what an account may do: that is its plan's and its caller's business.
"""

from collections.abc import Callable, Collection

from chat_app.accounts import attempts, devices, setup_code
from chat_app.accounts.attempts import Hit, Limit, admit
from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import COLUMNS, ROLES, AccountError, Identity
from chat_app.accounts.keys import Keys, revoke_all
from chat_app.accounts.passwords import Passwords, outdated
from chat_app.accounts.roster import TENANT, Roster, one_at_a_time
from chat_app.accounts.setup_code import SetupCode
from chat_app.accounts.tokens import digest, is_host_token, is_token, new_token
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.settings import Settings

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

    def __init__(self, db: Database, settings: Settings, pseudonym: Callable[[str], str] | None = None) -> None:
        """`pseudonym` names a network address so that nobody can turn it back; without it none is noted."""
        Keys.__init__(self, db)
        self._network = pseudonym or _unnoted
        self._settings = settings
        self._passwords = Passwords()
        self.setup_code = SetupCode(db)

    async def create(self, email: str, password: str, name: str = "", role: str = "user") -> Identity:
        """Make an account on the default plan, whatever the sign-up setting says: for administrators.

        The very first account is an administrator's, whatever `role` says, on the plan `first_plan`.

        Raises `AccountError`.
        """
        return await self._insert(email, name, role, await self._passwords.hashed(password), must="email_taken")

    async def sign_up(
        self,
        email: str,
        password: str,
        name: str = "",
        *,
        address: str = "",
        device: str = "",
        hit: Hit | None = None,
        code: str = "",
        from_here: bool = False,
    ) -> str:
        """A visitor makes an account and is signed in: returns the token for the browser's cookie.

        The first account can always be made, by whoever has the set-up `code`; where nobody else can reach Parley, and
        the visitor is on this machine (`from_here`), without it. The others can while sign-up is open. `hit`,
        `address` and `device` as for `sign_in`. Raises `AccountError`.
        """
        await admit(hit, attempts.from_address(address))
        must = "email_taken" if self._settings.signup_is_open else "signup_closed"
        if await self.is_empty():  # Once there is an account there always is one: who is let past is not the first.
            if self.asks_code(from_here=from_here) and not await self.setup_code.is_right(code):
                raise _error("bad_setup_code")
        elif must == "signup_closed":
            raise _error("signup_closed")  # Without the work of hashing; the insert asks again.
        hash_ = await self._passwords.hashed(password, address)
        made = await self._insert(email, name, "user", hash_, must=must)
        return await self._open_session(made.user_id, password, hash_, device, address)

    def asks_code(self, *, from_here: bool) -> bool:
        """Whether a visitor needs the set-up code to make the first account."""
        return not (from_here and self._settings.private)

    async def sign_in(
        self, email: str, password: str, *, address: str = "", device: str = "", hit: Hit | None = None
    ) -> str:
        """The token for the browser's cookie. Raises `AccountError`.

        An unknown address and a wrong password look alike and take as long. `hit` bounds the attempts per network
        `address`, per account and address, and per account for strangers, whether they succeed or not; without it
        (the command line) they are not bounded. `device` is the token of the browser's other cookie, a new one if it
        had none: signing in makes it known to this account.
        """
        try:
            email = normal_email(email)
        except AccountError as error:
            raise _error("bad_credentials") from error
        await admit(hit, attempts.from_address(address))
        found = await self._db.query(
            f"SELECT u.id, u.password_hash, u.disabled_at, {devices.COUNTS} FROM users u WHERE u.email = $1",
            email,
            *devices.counted(device, self._network(address)),
        )
        row = found[0] if found else None
        known = row is not None and row["known_device"] > 0
        known_address = row is not None and row["known_address"] > 0
        mark = digest(device)
        limits = attempts.to_account(digest(email), address, mark, known_device=known, known_address=known_address)
        await admit(hit, *limits)
        hash_, lane = row["password_hash"] if row else None, f"device:{mark}" if known else address
        if not await self._passwords.verified(password, hash_, lane, known=known) or row is None or hash_ is None:
            raise _error("bad_credentials")
        if row["disabled_at"] is not None:
            raise AccountError("account_disabled", "This account has been disabled. Ask your administrator.")
        return await self._open_session(row["id"], password, hash_, device, address)

    async def sign_out(self, token: str) -> None:
        """End the browser session with this token, if there is one."""
        await self._db.batch(Statement("DELETE FROM browser_session WHERE id = $1", (digest(token),)))

    async def forget_expired(self) -> int:
        """Remove the browser sessions that have expired, and devices that were not seen for a year; how many sessions
        there were."""
        while len((await self._db.batch(devices.outdated()))[0]) == devices.AT_ONCE:
            pass
        some = "SELECT id FROM browser_session WHERE expires_at <= $1 LIMIT 1000"
        remove = Statement(f"DELETE FROM browser_session WHERE id IN ({some}) RETURNING id", (now_ms(),))
        removed = 0
        while gone := (await self._db.batch(remove))[0]:
            removed += len(gone)
        return removed

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

    async def roles(self, sessions: Collection[str]) -> dict[str, str]:
        """The role of who is signed in with each of these sessions, by their tokens' digests; of those in force."""
        found, asked = {}, sorted(sessions)
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            places = ", ".join(f"${number}" for number in range(1, len(part) + 1))
            sql = (
                f"SELECT s.id, u.role FROM browser_session s JOIN users u ON u.id = s.user_id WHERE s.id IN ({places})"
            )
            found.update({row["id"]: row["role"] for row in await self._db.query(sql, *part)})
        return found

    async def change_password(
        self,
        user_id: str,
        current: str,
        new: str,
        *,
        keep: str = "",
        end_keys: bool = False,
        hit: Hit | None = None,
        address: str = "",
    ) -> None:
        """Set a new password, sign out every browser except the one with the token `keep`, and forget all devices; with
        `end_keys` revoke the person's API keys too. `hit` bounds the attempts, as for `sign_in`: who holds a session
        need not know the password, and anybody may have many accounts: the network `address` counts, and waits for its
        turn as at signing up. Raises `AccountError`."""
        await admit(hit, attempts.from_address(address), Limit(f"password:of:{user_id}", attempts.PER_EMAIL))
        rows = await self._db.query("SELECT password_hash FROM users WHERE id = $1", user_id)
        if not rows or not await self._passwords.verified(current, rows[0]["password_hash"], address):
            raise AccountError("bad_credentials", "The current password is not right.")
        await self.set_password(user_id, new, keep=keep, end_keys=end_keys, address=address)

    async def set_password(
        self, user_id: str, new: str, *, keep: str = "", end_keys: bool = False, address: str = ""
    ) -> None:
        """The same without the current password: for an administrator at the command line. Raises
        `AccountError`."""
        await self._change(
            Statement(
                "UPDATE users SET password_hash = $2 WHERE id = $1",
                (user_id, await self._passwords.hashed(new, address)),
                must="not_found",
            ),
            Statement("DELETE FROM browser_session WHERE user_id = $1 AND id <> $2", (user_id, digest(keep))),
            *([revoke_all(user_id)] if end_keys else []),
            devices.forgotten(user_id),
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
                setup_code.spent(),
            )
        except Unmet as unmet:
            raise _error(unmet.name, plan=plan) from unmet
        made = await self.by_email(email)
        if made is None:
            raise _error("not_found")
        return made

    async def _open_session(self, user_id: str, password: str, hash_: str, device: str, address: str) -> str:
        # The two cookies of a browser are given under names of one kind.
        token, now = new_token(host_only=is_host_token(device)), now_ms()
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
            *(devices.seen(user_id, device, self._network(address)) if device else ()),
        ]
        if outdated(hash_):
            rehash = "UPDATE users SET password_hash = $2 WHERE id = $1"
            statements.append(Statement(rehash, (user_id, await self._passwords.hashed(password, address, known=True))))
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise _error(unmet.name) from unmet
        return token


def _unnoted(_: str) -> str:
    return ""


_WORDS = {
    "bad_credentials": "The e-mail address or the password is not right.",
    "bad_role": f"A role is one of {', '.join(ROLES)}.",
    "email_taken": "There is an account with this e-mail address already. Sign in instead.",
    "bad_setup_code": "Enter the set-up code that was printed where Parley was started.",
    "signup_closed": "New accounts are made by the administrator here.",
    "plan_unknown": "New accounts should get the plan {plan}, but there is none. Tell the administrator.",
    "not_found": "There is no such account.",
}


def _error(code: str, **fields: str) -> AccountError:
    return AccountError(code, _WORDS[code].format(**fields))
