"""Signing in through the provider: there, back, and whose account it is. It does not know HTTP.

An account is somebody's by the provider's subject, never by an e-mail address: whoever signs up here with another's
address would otherwise find them in an account that both can enter. So an address that has an account already is
connected by its owner, signed in with the password.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from chat_app.accounts import attempts
from chat_app.accounts.attempts import Hit, Limit, admit
from chat_app.accounts.identity import COLUMNS, NO_PASSWORD, AccountError, Identity
from chat_app.accounts.oidc.claims import Claims, plan_of, role_of
from chat_app.accounts.oidc.flows import Flow, Flows
from chat_app.accounts.oidc.provider import LEEWAY_S, Provider, ProviderError
from chat_app.accounts.people import Accounts
from chat_app.accounts.refusals import report
from chat_app.accounts.tokens import is_token
from chat_app.data.acts import PROVIDER, Act, By, Recorder, Unrecorded
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.settings import Settings

logger = structlog.get_logger(__name__)

BY_PROVIDER = By(PROVIDER)
LONGEST = 255
"""Characters of a subject, as OpenID Connect bounds it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Somebody is back: the token of their new session, empty if they only connected their account; and where to go."""

    token: str
    onward: str


class ExternalSignIn:
    """The way through the provider that the settings name."""

    def __init__(self, db: Database, settings: Settings, accounts: Accounts, audit: Recorder | None = None) -> None:
        self._db = db
        self._settings = settings
        self._accounts = accounts
        self._audit = audit or Unrecorded()
        self._flows = Flows(db)
        self.provider = Provider(settings)

    @property
    def is_on(self) -> bool:
        """Whether there is a provider."""
        return bool(self._settings.oidc_issuer)

    async def begin(
        self,
        redirect_uri: str,
        onward: str,
        *,
        link: str | None = None,
        fresh: bool = False,
        host_only: bool = False,
        address: str = "",
        hit: Hit | None = None,
    ) -> tuple[str, str]:
        """The token for the browser's cookie, and the address to send it to. `link` is the account that asks to be
        connected; `fresh`: they prove anew who they are.

        Raises `AccountError` (oidc_unavailable, too_many_attempts)."""
        await admit(hit, Limit(f"oidc:from:{address}", attempts.PER_ADDRESS))
        token, flow = await self._flows.begin(onward, link=link, fresh=fresh, host_only=host_only)
        try:
            url = await self.provider.authorization_url(
                redirect_uri, flow.state, flow.nonce, flow.verifier, fresh=fresh
            )
        except ProviderError as error:
            raise _unavailable(error) from error
        return token, url

    async def finish(
        self,
        redirect_uri: str,
        said: Mapping[str, str],
        token: str,
        *,
        who: Identity | None = None,
        device: str = "",
        address: str = "",
        browser: str = "",
    ) -> Finished:
        """Somebody is back with what the provider `said` in the address; `token` is of their cookie, `who` is signed in
        in that browser. Raises `AccountError`."""
        try:
            return await self._finish(redirect_uri, said, token, who, device, address, browser)
        except AccountError as error:
            await report(self._audit, "sign_in", error, By(address=address), who.user_id if who else "")
            raise

    async def _finish(
        self,
        redirect_uri: str,
        said: Mapping[str, str],
        token: str,
        who: Identity | None,
        device: str,
        address: str,
        browser: str,
    ) -> Finished:
        # Not counted with the attempts to sign in: another site's page could send somebody's browser here.
        state = said.get("state", "")
        flow = await self._flows.end(token, state) if is_token(token) and is_token(state) else None
        if flow is None:
            raise _error("oidc_expired")
        if "error" in said:
            logger.info("the provider let nobody in", code=said["error"][:100])
            raise _error("oidc_refused")
        try:
            claims = await self.provider.claims(redirect_uri, said, flow.nonce, flow.verifier)
        except ProviderError as error:
            raise _unavailable(error) from error
        if not _is_name(claims.subject):
            raise _unavailable("a subject that is no name")
        if flow.fresh and claims.signed_in_at < flow.created_at // 1000 - LEEWAY_S:
            raise _error("oidc_refused")
        if flow.link is not None:
            await self._connect(flow, claims, who, address)
            return Finished("", flow.onward)
        identity = await self._known(claims) or await self._new(claims, address)
        session = await self._accounts.open_external(
            identity.user_id,
            claims.session,
            claims.signed_in_at * 1000,  # Not now: the provider may have asked for nothing.
            device=device,
            address=address,
            browser=browser,
        )
        await self._follow_groups(identity, claims)  # Only now: who is disabled gets nothing.
        return Finished(session, flow.onward)

    async def ended(self, logout_token: str) -> int:
        """The provider says that somebody signed out there: so they are here. How many sessions that ended. Raises
        `ProviderError` for a token that proves nothing."""
        gone = await self.provider.ended(logout_token)
        mine = "SELECT user_id FROM external_identity WHERE issuer = $1"
        condition, values = "provider_session = $2", [gone.session]
        if not gone.session:
            condition, values = "provider_session IS NOT NULL", []
        if gone.subject:
            mine += f" AND subject = ${len(values) + 2}"
            values.append(gone.subject)
        sql = f"DELETE FROM browser_session WHERE {condition} AND user_id IN ({mine}) RETURNING user_id"
        [rows] = await self._db.batch(Statement(sql, (self.provider.issuer, *values)))
        for user_id in {row["user_id"] for row in rows}:
            await self._audit.record(Act("sign_out", BY_PROVIDER, "account", user_id))
        return len(rows)

    async def disconnect(self, user_id: str, *, address: str = "") -> None:
        """Nobody enters this account through the provider any more; sessions that were opened so end. Raises
        `AccountError` (oidc_only) for an account that has no password."""
        only = "SELECT id FROM users WHERE id = $1 AND password_hash <> $2"
        act = Act("identity_disconnect", By(user_id, address), "account", user_id)
        try:
            await self._db.batch(
                Statement(only, (user_id, NO_PASSWORD), must="oidc_only"),
                Statement("DELETE FROM external_identity WHERE user_id = $1", (user_id,)),
                Statement(
                    "DELETE FROM browser_session WHERE user_id = $1 AND provider_session IS NOT NULL", (user_id,)
                ),
                *self._audit.statements(act),
            )
        except Unmet as unmet:
            raise _error(unmet.name) from unmet

    async def connected(self, user_id: str) -> bool:
        """Whether this account can be entered through the provider."""
        sql = "SELECT 1 FROM external_identity WHERE user_id = $1 AND issuer = $2"
        return bool(await self._db.query(sql, user_id, self.provider.issuer))

    async def signed_in_there(self, session: str) -> bool:
        """Whether the browser session with this digest was opened through the provider."""
        sql = "SELECT 1 FROM browser_session WHERE id = $1 AND provider_session IS NOT NULL"
        return bool(await self._db.query(sql, session))

    async def _known(self, claims: Claims) -> Identity | None:
        rows = await self._db.query(
            f"SELECT {COLUMNS} FROM external_identity e JOIN users u ON u.id = e.user_id"
            " WHERE e.issuer = $1 AND e.subject = $2",
            self.provider.issuer,
            claims.subject,
        )
        return Identity.from_row(rows[0]) if rows else None

    async def _new(self, claims: Claims, address: str) -> Identity:
        """An account for somebody who has none. The first account of all is an administrator's: nobody gets it by
        coming first, only by a group."""
        if not claims.email:
            raise _error("oidc_no_email")
        role = role_of(claims.groups, self._settings.group_roles) or "user"
        if role != "admin" and await self._accounts.is_empty():
            raise _error("oidc_not_first")
        user_id = new_id()
        try:
            return await self._accounts.create_external(
                user_id,
                claims.email,
                claims.name[:100],
                role,
                self._identity(user_id, claims.subject),
                address=address,
            )
        except AccountError as error:
            # Perhaps from another tab of the same person, a moment ago.
            found = await self._known(claims) if error.code == "email_taken" else None
            if found is None:
                raise _error("oidc_email_taken") if error.code == "email_taken" else error from error
            return found

    async def _connect(self, flow: Flow, claims: Claims, who: Identity | None, address: str) -> None:
        if who is None or who.user_id != flow.link:
            raise _error("oidc_expired")
        act = Act("identity_connect", By(who.user_id, address), "account", who.user_id)
        with suppress(Unmet):  # It is connected already, with this account or another.
            await self._db.batch(self._identity(who.user_id, claims.subject), *self._audit.statements(act))
        found = await self._known(claims)
        if found is None or found.user_id != who.user_id:
            raise _error("oidc_other_account")

    def _identity(self, user_id: str, subject: str) -> Statement:
        return Statement(
            "INSERT INTO external_identity (issuer, subject, user_id, created_at)"
            " SELECT $1, $2, u.id, CAST($4 AS BIGINT) FROM users u"
            " WHERE u.id = $3 AND u.disabled_at IS NULL AND u.closed_at IS NULL"
            " ON CONFLICT (issuer, subject) DO NOTHING",
            (self.provider.issuer, subject, user_id, now_ms()),
            must="email_taken",
        )

    async def _follow_groups(self, identity: Identity, claims: Claims) -> None:
        """Role and plan after the groups, where the settings say so. What cannot be is left as it was, and logged."""
        role = role_of(claims.groups, self._settings.group_roles)
        plan = plan_of(claims.groups, self._settings.group_plans)
        try:
            if role not in (None, identity.role):
                await self._accounts.set_role(identity.user_id, str(role), by=BY_PROVIDER)
            if plan not in (None, identity.plan_id):
                await self._accounts.set_plan(identity.user_id, str(plan), by=BY_PROVIDER)
        except AccountError as error:
            logger.warning("a group's role or plan was not given", user_id=identity.user_id, code=error.code)


def _is_name(subject: str) -> bool:
    return 0 < len(subject) <= LONGEST and subject.isprintable()


def _unavailable(why: object) -> AccountError:
    logger.warning("signing in with the provider failed", error=str(why))
    return _error("oidc_unavailable")


WORDS = {
    "oidc_unavailable": "That account could not be checked. Try again, or sign in with a password.",
    "oidc_expired": "That took too long, or was begun in another browser. Try again.",
    "oidc_refused": "You were not signed in there. Try again.",
    "oidc_no_email": "Your provider names no e-mail address that it has verified. Ask your administrator.",
    "oidc_email_taken": "There is an account with your e-mail address already. Sign in with its password and connect it"
    " on your account page.",
    "oidc_other_account": "That account is connected with another one here.",
    "oidc_prove_first": "Choose “Connect” on your account page: it asks for your password first.",
    "oidc_only": "This account has no password: there is no other way into it.",
    "oidc_not_first": "The first account is made with a password, or by somebody in an administrators' group.",
}


def _error(code: str) -> AccountError:
    return AccountError(code, WORDS[code])
