"""What people change about their own account, and the proofs that it takes. It does not know from where they ask.

A change that matters takes the password, whoever holds the session; with a second factor some take a code of it too.
"""

from collections.abc import Sequence

from chat_app.accounts import attempts, devices, half_sign_in, second_factor
from chat_app.accounts.attempts import Hit, Limit, admit
from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.keys import anonymised
from chat_app.accounts.passwords import Passwords
from chat_app.accounts.roster import closed, one_at_a_time
from chat_app.accounts.second_factor import SecondFactors, Setup
from chat_app.data.db.base import Conflict, Database, Statement, Unmet
from chat_app.settings import Settings

_WORDS = {
    **second_factor.WORDS,
    "email_taken": "There is another account with this e-mail address already.",
    "factor_off": "There is no second factor.",
    "last_admin": "You are the only administrator. Make another account an administrator first.",
    "not_found": "There is no such account.",
}


class SelfService:
    """Over the accounts' database; `hit` bounds the attempts, as for `Accounts.sign_in`."""

    _db: Database
    _passwords: Passwords
    _settings: Settings
    second_factor: SecondFactors

    async def prove(self, user_id: str, password: str, *, hit: Hit | None = None) -> None:
        """Raises `AccountError` (bad_credentials, too_many_attempts, busy) unless it is the person's password: who
        holds a session need not know it."""
        lane = f"password:of:{user_id}"
        await admit(hit, Limit(lane, attempts.PER_EMAIL))
        rows = await self._db.query("SELECT password_hash FROM users WHERE id = $1", user_id)
        if not rows or not await self._passwords.verified(password, rows[0]["password_hash"], lane, known=True):
            raise AccountError("bad_credentials", "The current password is not right.")

    async def rename(self, user_id: str, name: str) -> None:
        """Give the person another name. Raises `AccountError` (bad_name, not_found)."""
        new = normal_name(name)
        if not new:
            raise AccountError("bad_name", "Enter a name.")
        rename = "UPDATE users SET name = $2 WHERE id = $1 AND closed_at IS NULL"
        await self._commit(Statement(rename, (user_id, new), must="not_found"))

    async def change_email(self, user_id: str, email: str, password: str, *, hit: Hit | None = None) -> None:
        """Have the person sign in with another address from now on. Raises `AccountError` (also email_taken)."""
        new = normal_email(email)
        await self.prove(user_id, password, hit=hit)
        free = "NOT EXISTS (SELECT 1 FROM users o WHERE o.email = $2 AND o.id <> $1)"
        change = f"UPDATE users SET email = $2 WHERE id = $1 AND closed_at IS NULL AND {free}"
        try:
            await self._commit(Statement(change, (user_id, new), must="email_taken"))
        except Conflict as error:  # Somebody else took it in this moment.
            raise _refusal("email_taken") from error

    def needs_second_factor(self, who: Identity) -> bool:
        """Whether the settings want this person to have one."""
        return {"nobody": False, "staff": who.is_staff, "everyone": True}[self._settings.require_second_factor]

    def must_set_up(self, who: Identity) -> bool:
        """Whether the person has to set up a second factor before anything else."""
        return self.needs_second_factor(who) and not who.has_second_factor

    async def set_up_second_factor(self, who: Identity, password: str, *, hit: Hit | None = None) -> Setup:
        """A new secret for the person's authenticator app, which `confirm_second_factor` puts in force. Raises
        `AccountError` (also factor_on)."""
        await self.prove(who.user_id, password, hit=hit)
        return await self.second_factor.begin(who.user_id, who.email)

    async def confirm_second_factor(self, user_id: str, code: str, *, hit: Hit | None = None) -> tuple[str, ...]:
        """Ask for codes from the next sign-in on; returns the recovery codes, for this once. Raises `AccountError`."""
        await admit(hit, attempts.to_code(user_id, attempts.SIGNED_IN))
        return await self.second_factor.confirm(user_id, code)

    async def renew_recovery_codes(
        self, user_id: str, password: str, code: str, *, hit: Hit | None = None
    ) -> tuple[str, ...]:
        """New recovery codes; earlier ones are good no more. Raises `AccountError` (also bad_code, factor_off)."""
        spend = await self._proofs(user_id, password, code, hit)
        if not spend:
            raise _refusal("factor_off")
        codes, kept = second_factor.renewed(user_id)
        await self._commit(*spend, *kept)
        return codes

    async def turn_off_second_factor(self, user_id: str, password: str, code: str, *, hit: Hit | None = None) -> None:
        """Ask for no codes any more. Who needs a second factor has to set up another one at once. Raises
        `AccountError` (also bad_code, factor_off)."""
        spend = await self._proofs(user_id, password, code, hit)
        await self._commit(*spend, *second_factor.removed(user_id, must="factor_off"))

    async def remove_second_factor(self, user_id: str) -> None:
        """The same without any proof, for an administrator at the command line: the phone is lost. Raises
        `AccountError` (factor_off)."""
        await self._commit(*second_factor.removed(user_id, must="factor_off"))

    async def closing(self, user_id: str, password: str, code: str, *, hit: Hit | None = None) -> Sequence[Statement]:
        """What closes the account for good, to be committed in one batch (unmet: see `closing_refusal`). Sessions and
        keys end, the address is free again, and of the person nothing is left but the account's id. Raises
        `AccountError` (also bad_code)."""
        spend = await self._proofs(user_id, password, code, hit)
        return [
            one_at_a_time(),
            *spend,
            closed(user_id, must="last_admin"),
            Statement("DELETE FROM browser_session WHERE user_id = $1", (user_id,)),
            Statement("DELETE FROM recovery_code WHERE user_id = $1", (user_id,)),
            half_sign_in.forgotten(user_id),
            devices.forgotten(user_id),
            anonymised(user_id),
        ]

    async def _proofs(self, user_id: str, password: str, code: str, hit: Hit | None) -> list[Statement]:
        """Checks the password and, where there is a second factor, the code; returns the statement that spends it."""
        await self.prove(user_id, password, hit=hit)
        has = "SELECT id FROM users WHERE id = $1 AND factor_at IS NOT NULL"
        if not await self._db.query(has, user_id):
            return []
        await admit(hit, attempts.to_code(user_id, attempts.SIGNED_IN))
        return [await self.second_factor.spent(user_id, code)]

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
