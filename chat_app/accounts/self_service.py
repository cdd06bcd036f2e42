"""What people change about their own account, and the proofs that it takes. It does not know from where they ask.

A change that matters takes the password, whoever holds the session; with a second factor some take a code of it too.
"""

from collections.abc import Sequence

from chat_app.accounts import attempts, devices, half_sign_in, second_factor
from chat_app.accounts.attempts import Hit, admit
from chat_app.accounts.browsers import Browsers
from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.keys import anonymised, revoke_all
from chat_app.accounts.refusals import reported
from chat_app.accounts.roster import closed, one_at_a_time
from chat_app.accounts.second_factor import SecondFactors, Setup
from chat_app.accounts.tokens import digest
from chat_app.data.acts import BY_OPERATOR, Act, Action, By
from chat_app.data.db.base import Conflict, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.settings import Settings

_WORDS = {
    **second_factor.WORDS,
    "bad_credentials": "The current password is not right.",
    "email_taken": "There is another account with this e-mail address already.",
    "factor_off": "There is no second factor.",
    "last_admin": "You are the only administrator. Make another account an administrator first.",
    "not_found": "There is no such account.",
}


class SelfService(Browsers):
    """Over the accounts' database; `hit` bounds the attempts, as for `Accounts.sign_in`."""

    _settings: Settings
    second_factor: SecondFactors

    async def rename(self, user_id: str, name: str, *, address: str = "") -> None:
        """Give the person another name. Raises `AccountError` (bad_name, not_found)."""
        new = normal_name(name)
        if not new:
            raise AccountError("bad_name", "Enter a name.")
        found = await self._db.query("SELECT name FROM users WHERE id = $1", user_id)
        if found and found[0]["name"] == new:
            return  # Nothing was done, and nothing is recorded.
        rename = "UPDATE users SET name = $2 WHERE id = $1 AND closed_at IS NULL"
        await self._commit(
            Statement(rename, (user_id, new), must="not_found"), *self._done("name_change", user_id, address)
        )

    async def change_email(
        self, user_id: str, email: str, password: str, *, address: str = "", hit: Hit | None = None
    ) -> None:
        """Have the person sign in with another address from now on. Raises `AccountError` (also email_taken)."""
        async with reported(self._audit, "email_change", user_id, address):
            new = normal_email(email)
            await self._prove(user_id, password, address, hit)
            free = "NOT EXISTS (SELECT 1 FROM users o WHERE o.email = $2 AND o.id <> $1)"
            change = f"UPDATE users SET email = $2 WHERE id = $1 AND closed_at IS NULL AND {free}"
            try:
                await self._commit(
                    Statement(change, (user_id, new), must="email_taken"), *self._done("email_change", user_id, address)
                )
            except Conflict as error:  # Somebody else took it in this moment.
                raise _refusal("email_taken") from error

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
        async with reported(self._audit, "password_change", user_id, address):
            rows = await self._db.query("SELECT password_hash FROM users WHERE id = $1", user_id)
            await self._prove(user_id, current, address, hit)
            was, by = str(rows[0]["password_hash"]) if rows else "", By(user_id, address)
            await self.set_password(user_id, new, keep=keep, end_keys=end_keys, by=by, was=was)

    async def set_password(
        self,
        user_id: str,
        new: str,
        *,
        keep: str = "",
        end_keys: bool = False,
        by: By = BY_OPERATOR,
        was: str | None = None,
    ) -> None:
        """The same without the current password: for an administrator at the command line. `was`: only if this is
        still its hash, for of two changes at once the second one was not asked. Raises `AccountError`."""
        rows = await self._db.query("SELECT email, name FROM users WHERE id = $1", user_id)
        about = [text for row in rows for text in (row["email"], row["name"])]
        hash_ = await self._passwords.hashed(new, by.address, about=about)
        await self._commit(
            Statement(
                "UPDATE users SET password_hash = $2"
                " WHERE id = $1 AND closed_at IS NULL AND password_hash = COALESCE($3, password_hash)",
                (user_id, hash_, was),
                must="not_found" if was is None else "bad_credentials",
            ),
            Statement("DELETE FROM browser_session WHERE user_id = $1 AND id <> $2", (user_id, digest(keep))),
            Statement(
                "UPDATE browser_session SET proved_at = $2, short_password = 0 WHERE id = $1", (digest(keep), now_ms())
            ),
            *([revoke_all(user_id)] if end_keys else []),
            devices.forgotten(user_id),
            *self._audit.statements(Act("password_change", by, "account", user_id, details={"keys_end": end_keys})),
        )

    def needs_second_factor(self, who: Identity) -> bool:
        """Whether the settings want this person to have one."""
        return {"nobody": False, "staff": who.is_staff, "everyone": True}[self._settings.require_second_factor]

    def must_set_up(self, who: Identity) -> bool:
        """Whether the person has to set up a second factor before anything else. Who has no password proves who they
        are to the provider of identities, which asks for what it wants."""
        return self.needs_second_factor(who) and who.has_password and not who.has_second_factor

    async def set_up_second_factor(
        self, who: Identity, password: str, *, address: str = "", hit: Hit | None = None
    ) -> Setup:
        """A new secret for the person's authenticator app, which `confirm_second_factor` puts in force. Raises
        `AccountError` (also factor_on)."""
        async with reported(self._audit, "factor_set_up", who.user_id, address):
            await self._prove(who.user_id, password, address, hit)
            return await self.second_factor.begin(who.user_id, who.email)

    async def confirm_second_factor(
        self, user_id: str, code: str, *, keep: str = "", address: str = "", hit: Hit | None = None
    ) -> tuple[str, ...]:
        """Ask for codes from the next sign-in on; returns the recovery codes, for this once. Sessions that were begun
        without one end, but that with the token `keep`. Raises `AccountError`."""
        async with reported(self._audit, "factor_set_up", user_id, address):
            await admit(hit, attempts.to_code(user_id, attempts.SIGNED_IN))
            return await self.second_factor.confirm(
                user_id,
                code,
                Statement("DELETE FROM browser_session WHERE user_id = $1 AND id <> $2", (user_id, digest(keep))),
                devices.forgotten(user_id),
                *self._done("factor_set_up", user_id, address),
            )

    async def renew_recovery_codes(
        self, user_id: str, password: str, code: str, *, address: str = "", hit: Hit | None = None
    ) -> tuple[str, ...]:
        """New recovery codes; earlier ones are good no more. Raises `AccountError` (also bad_code, factor_off)."""
        async with reported(self._audit, "factor_renew", user_id, address):
            spend = await self._proofs(user_id, password, code, address, hit)
            if not spend:
                raise _refusal("factor_off")
            codes, kept = second_factor.renewed(user_id)
            await self._commit(*spend, *kept, *self._done("factor_renew", user_id, address))
            return codes

    async def turn_off_second_factor(
        self, user_id: str, password: str, code: str, *, address: str = "", hit: Hit | None = None
    ) -> None:
        """Ask for no codes any more. Who needs a second factor has to set up another one at once. Raises
        `AccountError` (also bad_code, factor_off)."""
        async with reported(self._audit, "factor_remove", user_id, address):
            spend = await self._proofs(user_id, password, code, address, hit)
            gone = second_factor.removed(user_id, must="factor_off")
            await self._commit(*spend, *gone, *self._done("factor_remove", user_id, address))

    async def remove_second_factor(self, user_id: str) -> None:
        """The same without any proof, for an administrator at the command line: the phone is lost. Raises
        `AccountError` (factor_off)."""
        act = Act("factor_remove", BY_OPERATOR, "account", user_id)
        await self._commit(*second_factor.removed(user_id, must="factor_off"), *self._audit.statements(act))

    async def closing(
        self, user_id: str, password: str, code: str, *, address: str = "", hit: Hit | None = None
    ) -> Sequence[Statement]:
        """What closes the account for good, to be committed in one batch (unmet: see `closing_refusal`). Sessions and
        keys end, the address is free again, and of the person nothing is left but the account's id. Raises
        `AccountError` (also bad_code)."""
        async with reported(self._audit, "account_close", user_id, address):
            spend = await self._proofs(user_id, password, code, address, hit)
            return [
                one_at_a_time(),
                Statement("SELECT id FROM users WHERE id = $1 AND closed_at IS NULL", (user_id,), must="not_found"),
                *spend,
                closed(user_id, must="last_admin"),
                Statement("DELETE FROM browser_session WHERE user_id = $1", (user_id,)),
                Statement("DELETE FROM recovery_code WHERE user_id = $1", (user_id,)),
                half_sign_in.forgotten(user_id),
                devices.forgotten(user_id),
                anonymised(user_id),
                Statement("DELETE FROM external_identity WHERE user_id = $1", (user_id,)),
                *self._done("account_close", user_id, address),
            ]

    async def _prove(self, user_id: str, password: str, address: str, hit: Hit | None) -> None:
        """Raises `AccountError` (bad_credentials, too_many_attempts, busy) unless it is the person's password: who
        holds a session need not know it."""
        if not await self._is_password(user_id, password, address, hit):
            raise AccountError("bad_credentials", "The current password is not right.")

    async def _proofs(self, user_id: str, password: str, code: str, address: str, hit: Hit | None) -> list[Statement]:
        """Checks the password and, where there is a second factor, the code; returns the statement that spends it."""
        await self._prove(user_id, password, address, hit)
        has = "SELECT id FROM users WHERE id = $1 AND factor_at IS NOT NULL"
        if not await self._db.query(has, user_id):
            return []
        await admit(hit, attempts.to_code(user_id, attempts.SIGNED_IN))
        return [await self.second_factor.spent(user_id, code)]

    def _done(self, action: Action, user_id: str, address: str) -> tuple[Statement, ...]:
        return self._audit.statements(Act(action, By(user_id, address), "account", user_id))

    async def _commit(self, *statements: Statement) -> None:
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise _refusal(unmet.name) from unmet


def closing_refusal(unmet: Unmet) -> AccountError:
    """Why an account was not closed."""
    return _refusal(unmet.name)


def _refusal(code: str) -> AccountError:
    return AccountError(code, _WORDS[code])
