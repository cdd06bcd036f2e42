"""Accounts: how they are made, and how a browser signs in and out.

Every method that returns an identity asks the database, so that a revocation or a change of plan is in force
at once. It does not know what an account may do: that is its plan's and its caller's business.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache

from chat_app.accounts import attempts, devices, half_sign_in, setup_code
from chat_app.accounts.attempts import Hit, admit
from chat_app.accounts.browsers import Browsers
from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import NO_PASSWORD, ROLES, AccountError, Identity, SecondFactorNeeded
from chat_app.accounts.keys import Keys
from chat_app.accounts.passwords import SHORTEST, Passwords, outdated
from chat_app.accounts.refusals import report
from chat_app.accounts.roster import TENANT, Roster, one_at_a_time
from chat_app.accounts.second_factor import BAD_CODE, KEY_FILE, WORDS, SecondFactors
from chat_app.accounts.self_service import SelfService
from chat_app.accounts.setup_code import SetupCode
from chat_app.accounts.tokens import digest, is_host_token, new_token
from chat_app.data.acts import NOBODY, OBJECT, Act, Action, By, Recorder
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.data.key_file import key_in
from chat_app.settings import Settings

_DAY_MS = 86_400_000

# The role is decided inside the insert, behind `one_at_a_time`: of two first accounts at once, one is admin.
_INSERT = (
    "INSERT INTO users (id, tenant_id, email, name, password_hash, role, plan_id, created_at)"
    " SELECT $1, t.id, $3, $4, $5, CASE WHEN EXISTS (SELECT 1 FROM users) THEN $6 ELSE 'admin' END,"
    " CASE WHEN EXISTS (SELECT 1 FROM users) THEN $7 ELSE COALESCE((SELECT id FROM plan WHERE id = $9), $7) END,"
    " CAST($8 AS BIGINT) FROM tenant t WHERE t.id = $2{condition} ON CONFLICT (email) DO NOTHING"
)


class Accounts(SelfService, Keys, Roster):
    """Everything about accounts, over one database. Sessions, what people change about themselves, keys, and other
    people are in `Browsers`, `SelfService`, `Keys` and `Roster`."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        pseudonym: Callable[[str], str] | None = None,
        audit: Recorder | None = None,
    ) -> None:
        """`pseudonym` names a network address so that nobody can turn it back; without it none is noted. What is done
        to accounts is reported to `audit`."""
        Keys.__init__(self, db, audit)
        self._network = pseudonym or _unnoted
        self._settings = settings
        Browsers.__init__(self, db, settings, Passwords())
        self.setup_code = SetupCode(db, audit)
        self.second_factor = SecondFactors(db, cache(lambda: key_in(settings.home / KEY_FILE)))

    async def create(
        self, email: str, password: str, name: str = "", role: str = "user", *, by: By = NOBODY
    ) -> Identity:
        """Make an account on the default plan, whatever the sign-up setting says: for administrators.

        The very first account is an administrator's, whatever `role` says, on the plan `first_plan`.

        Raises `AccountError`.
        """
        hash_ = await self._passwords.hashed(password, about=(email, name))
        return await self._insert(email, name, role, hash_, "account_create", by, must="email_taken")

    async def create_external(
        self, user_id: str, email: str, name: str, role: str, also: Statement, *, address: str = ""
    ) -> Identity:
        """An account without a password, whose owner is known elsewhere; `also` is committed with it. Raises
        `AccountError`."""
        by = By(address=address)
        return await self._insert(
            email, name, role, NO_PASSWORD, "sign_up", by, must="email_taken", user_id=user_id, also=(also,)
        )

    async def open_external(
        self,
        user_id: str,
        provider_session: str,
        proved_at: int,
        *,
        device: str = "",
        address: str = "",
        browser: str = "",
    ) -> str:
        """Sign somebody in whose identity was proven elsewhere, at `proved_at`: the token for the browser's cookie.
        Raises `AccountError` (account_disabled)."""
        token, now = new_token(host_only=is_host_token(device)), now_ms()
        act = Act("sign_in", By(user_id, address), "account", user_id, details={"way": "provider"})
        try:
            await self._db.batch(
                Statement("DELETE FROM browser_session WHERE user_id = $1 AND expires_at <= $2", (user_id, now)),
                Statement(
                    "INSERT INTO browser_session"
                    " (id, user_id, created_at, seen_at, proved_at, expires_at, browser, short_password,"
                    " provider_session)"
                    " SELECT $1, u.id, CAST($3 AS BIGINT), CAST($3 AS BIGINT), CAST($7 AS BIGINT), CAST($4 AS BIGINT),"
                    " $5, 0, $6 FROM users u WHERE u.id = $2 AND u.disabled_at IS NULL",
                    (digest(token), user_id, now, self._until(now), browser, provider_session, min(now, proved_at)),
                    must="account_disabled",
                ),
                *(devices.seen(user_id, device, self._network(address)) if device else ()),
                *self._audit.statements(act),
            )
        except Unmet as unmet:
            raise _error(unmet.name) from unmet
        return token

    def _until(self, now: int) -> int:
        return now + self._settings.session_days * _DAY_MS

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
        browser: str = "",
    ) -> str:
        """A visitor makes an account and is signed in: returns the token for the browser's cookie.

        The first account can always be made, by whoever has the set-up `code`, the others while sign-up is open.
        `hit`, `address`, `device` and `browser` as for `sign_in`. Raises `AccountError`.
        """
        try:
            return await self._signed_up(email, password, name, address, device, hit, code, browser)
        except AccountError as error:
            await report(self._audit, "sign_up", error, By(address=address))
            raise

    async def _signed_up(
        self,
        email: str,
        password: str,
        name: str,
        address: str,
        device: str,
        hit: Hit | None,
        code: str,
        browser: str,
    ) -> str:
        await admit(hit, attempts.from_address(address))
        must = "email_taken" if self._settings.signup_is_open else "signup_closed"
        if await self.is_empty():  # Once there is an account there always is one: who is let past is not the first.
            if not await self.setup_code.is_right(code):
                raise _error("bad_setup_code")
        elif must == "signup_closed":
            raise _error("signup_closed")  # Without the work of hashing; the insert asks again.
        hash_ = await self._passwords.hashed(password, address, about=(email, name))
        made = await self._insert(email, name, "user", hash_, "sign_up", By(address=address), must=must)
        return await self._open_session(made.user_id, password, hash_, device, address, browser)

    async def sign_in(
        self,
        email: str,
        password: str,
        *,
        address: str = "",
        device: str = "",
        hit: Hit | None = None,
        browser: str = "",
    ) -> str:
        """The token for the browser's cookie. Raises `AccountError`, and `SecondFactorNeeded` where `enter_code` is to
        follow.

        An unknown address and a wrong password look alike and take as long. `hit` bounds the attempts per network
        `address`, per account and address, and per account for strangers, whether they succeed or not; without it
        (the command line) they are not bounded. `device` is the token of the browser's other cookie, a new one if it
        had none: signing in makes it known to this account. `browser` is its kind, in plain words.
        """
        try:
            return await self._signed_in(email, password, address, device, hit, browser)
        except SecondFactorNeeded:
            raise
        except AccountError as error:
            await report(self._audit, "sign_in", error, By(address=address), await self._account_of(email))
            raise

    async def _signed_in(
        self, email: str, password: str, address: str, device: str, hit: Hit | None, browser: str
    ) -> str:
        await admit(hit, attempts.from_address(address))
        try:
            email = normal_email(email)
        except AccountError as error:
            raise _error("bad_credentials") from error
        found = await self._db.query(
            f"SELECT u.id, u.password_hash, u.disabled_at, u.factor_at, {devices.COUNTS}"
            " FROM users u WHERE u.email = $1",
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
        if not await self._passwords.verified(password, hash_, lane, known=known) or row is None or not hash_:
            raise _error("bad_credentials")
        if row["disabled_at"] is not None:
            raise _error("account_disabled")
        if row["factor_at"] is not None:
            raise SecondFactorNeeded(await self._half_signed_in(row["id"], password, hash_, device, address))
        return await self._open_session(row["id"], password, hash_, device, address, browser)

    async def enter_code(
        self,
        proof: str,
        code: str,
        *,
        address: str = "",
        device: str = "",
        hit: Hit | None = None,
        browser: str = "",
    ) -> str:
        """The second step of `sign_in`, with its parameters: the token for the browser's cookie, for whoever has the
        `proof` of `SecondFactorNeeded` and a code of the person's app or a recovery code. Raises `AccountError`:
        bad_code if another try may help, sign_in_again if the password has to be given anew."""
        await admit(hit, attempts.from_address(address))
        found = await self._db.query(
            half_sign_in.FIND, digest(proof), *devices.counted(device, self._network(address)), now_ms()
        )
        if not found or found[0]["password"] != digest(found[0]["password_hash"]):
            raise _error("sign_in_again")
        row = found[0]
        try:
            await admit(hit, attempts.to_code(row["id"], digest(device) if row["known_device"] > 0 else ""))
            if row["disabled_at"] is not None:
                raise _error("account_disabled")
            proven = half_sign_in.ended(proof, must="sign_in_again"), await self.second_factor.spent(row["id"], code)
            return await self._open_session(row["id"], "", row["password_hash"], device, address, browser, *proven)
        except AccountError as error:
            await report(self._audit, "sign_in", error, By(address=address), row["id"])
            raise

    async def forget_expired(self) -> int:
        """Remove the browser sessions that have ended by themselves, sign-ins that nobody went on with, and devices
        not seen for a year; how many sessions there were."""
        await self._db.batch(half_sign_in.outdated())
        while len((await self._db.batch(devices.outdated()))[0]) == devices.AT_ONCE:
            pass
        return await self._forget_ended()

    async def _account_of(self, email: str) -> str:
        """The id of the account with this address, as somebody typed it; empty if there is none."""
        with suppress(AccountError):
            known = await self.by_email(normal_email(email))
            return known.user_id if known else ""
        return ""

    async def _insert(
        self,
        email: str,
        name: str,
        role: str,
        hash_: str,
        action: Action,
        by: By,
        *,
        must: str,
        user_id: str | None = None,
        also: Sequence[Statement] = (),
    ) -> Identity:
        email, plan = normal_email(email), self._settings.default_plan
        name = normal_name(name, email.partition("@")[0][:100])
        if role not in ROLES:
            raise _error("bad_role")
        id = user_id or new_id()
        user = (id, TENANT, email, name, hash_, role, plan, now_ms(), self._settings.first_plan)
        only_first = " AND NOT EXISTS (SELECT 1 FROM users)" if must == "signup_closed" else ""
        try:
            await self._db.batch(
                one_at_a_time(),
                Statement("SELECT id FROM plan WHERE id = $1", (plan,), must="plan_unknown"),
                Statement(_INSERT.format(condition=only_first), user, must=must),
                setup_code.spent(),
                *also,
                *self._made(action, by, id, role),
            )
        except Unmet as unmet:
            raise _error(unmet.name, plan=plan) from unmet
        made = await self.by_email(email)
        if made is None:
            raise _error("not_found")
        return made

    def _made(self, action: Action, by: By, id: str, role: str) -> Iterator[Statement]:
        """What records a new account, behind its insert: only there it is known whether it is the first one."""
        by = By(id, by.address) if action == "sign_up" else by
        others = f"EXISTS (SELECT 1 FROM users o WHERE o.id <> {OBJECT})"
        first = Act(action, by, "account", id, details={"role": "admin", "first": True})
        yield from self._audit.statements(first, f"NOT {others}")
        yield from self._audit.statements(Act(action, by, "account", id, details={"role": role}), others)

    async def _half_signed_in(self, user_id: str, password: str, hash_: str, device: str, address: str) -> str:
        """A token for whoever has given the password, and not yet a code."""
        rehash = await self._rehashed(user_id, password, hash_, address)
        now_kept = str(rehash[0].params[1]) if rehash else hash_
        proof, begun = half_sign_in.begun(user_id, now_kept, host_only=is_host_token(device))
        await self._db.batch(*rehash, *begun)
        return proof

    async def _open_session(
        self, user_id: str, password: str, hash_: str, device: str, address: str, browser: str, *proven: Statement
    ) -> str:
        """A new session's token, for as long as the password has this hash and, unless the statements `proven` have
        their way, no second factor is asked for."""
        # The two cookies of a browser are given under names of one kind.
        token, now = new_token(host_only=is_host_token(device)), now_ms()
        short = int(0 < len(password) < SHORTEST)
        alone = "" if proven else " AND u.factor_at IS NULL"
        statements = [
            *proven,
            Statement("DELETE FROM browser_session WHERE user_id = $1 AND expires_at <= $2", (user_id, now)),
            # Only if the password is still the one that was checked.
            Statement(
                "INSERT INTO browser_session"
                " (id, user_id, created_at, seen_at, proved_at, expires_at, browser, short_password)"
                " SELECT $1, u.id, CAST($4 AS BIGINT), CAST($4 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT),"
                " $6, CAST($7 AS BIGINT) FROM users u"
                f" WHERE u.id = $2 AND u.password_hash = $3 AND u.disabled_at IS NULL{alone}",
                (digest(token), user_id, hash_, now, self._until(now), browser, short),
                must="sign_in_again" if proven else "bad_credentials",
            ),
            *(devices.seen(user_id, device, self._network(address)) if device else ()),
            *self._audit.statements(Act("sign_in", By(user_id, address), "account", user_id)),
            *(await self._rehashed(user_id, password, hash_, address) if password else ()),
        ]
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise _error(unmet.name) from unmet
        return token

    async def _rehashed(self, user_id: str, password: str, hash_: str, address: str) -> list[Statement]:
        """What hashes the password anew if this hash was made with other parameters than today's."""
        if not outdated(hash_):
            return []
        new = await self._passwords.hashed_again(password, address, known=True)
        return [
            Statement("UPDATE users SET password_hash = $2 WHERE id = $1 AND password_hash = $3", (user_id, new, hash_))
        ]


def _unnoted(_: str) -> str:
    return ""


_WORDS = {
    "bad_credentials": "The e-mail address or the password is not right.",
    "account_disabled": "This account has been disabled. Ask your administrator.",
    "bad_code": WORDS[BAD_CODE],
    "sign_in_again": "That took too long, or your password has changed. Sign in again.",
    "bad_role": f"A role is one of {', '.join(ROLES)}.",
    "email_taken": "There is an account with this e-mail address already. Sign in instead.",
    "bad_setup_code": "Enter the set-up code that was printed where Parley was started.",
    "signup_closed": "New accounts are made by the administrator here: ask for one.",
    "plan_unknown": "New accounts should get the plan {plan}, but there is none. Tell the administrator.",
    "not_found": "There is no such account.",
}


def _error(code: str, **fields: str) -> AccountError:
    return AccountError(code, _WORDS[code].format(**fields))
