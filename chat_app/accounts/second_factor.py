"""The second factor: an authenticator app's codes, and recovery codes that stand in for them once each.

A code is spent by the statement that commits what it was given for: of two attempts with one code, on whichever
replicas, one is unmet. It does not know what a code is asked for, nor who may ask.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chat_app.accounts.identity import AccountError
from chat_app.accounts.tokens import digest
from chat_app.accounts.totp import DIGITS, address_of, mark_of, new_seed, secret_of, step_of
from chat_app.accounts.typed_codes import new_code, normal
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import now_ms

KEY_FILE = "second-factor.key"
"""In the home directory: what apps' secrets are derived from."""
RECOVERY_CODES = 10
_GROUPS = 6
"""Of a recovery code: 117 bits."""
BAD_CODE, FACTOR_ON = "bad_code", "factor_on"

WORDS = {
    BAD_CODE: "This code is not right, or was used already. Wait for your app’s next one, or take another recovery"
    " code.",
    FACTOR_ON: "There is a second factor already. Turn it off first.",
    "factor_unreadable": "Parley has not the key with which this second factor was set up. Use a recovery code, and"
    " tell your administrator.",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """What an authenticator app needs, to be shown this once: `secret` in base32, and the same as an `otpauth://`
    address."""

    secret: str
    address: str


class SecondFactors:
    """The columns `factor_…` of `users`, and the `recovery_code` table. `key` returns the installation's key."""

    def __init__(self, db: Database, key: Callable[[], bytes]) -> None:
        self._db = db
        self._key = key

    async def begin(self, user_id: str, email: str) -> Setup:
        """A new secret, in place of an earlier one that was not confirmed; nothing asks for its codes yet. Raises
        `AccountError` (factor_on)."""
        seed, key = new_seed(), self._key()
        kept = "UPDATE users SET factor_seed = $2, factor_key = $3, factor_step = 0 WHERE id = $1 AND factor_at IS NULL"
        await self._commit(Statement(kept, (user_id, seed, mark_of(key)), must=FACTOR_ON))
        secret = secret_of(key, seed, user_id)
        return Setup(secret, address_of(secret, email))

    async def confirm(self, user_id: str, code: str, *also: Statement) -> tuple[str, ...]:
        """Ask for codes from now on, if this is one of the app that was set up; returns the recovery codes, of which
        only digests are kept. `also` is committed with it. Raises `AccountError` (bad_code, factor_on,
        factor_unreadable)."""
        seed, step = await self._step(user_id, code)
        codes, kept = renewed(user_id)
        await self._commit(
            Statement("SELECT id FROM users WHERE id = $1 AND factor_at IS NULL", (user_id,), must=FACTOR_ON),
            Statement(
                "UPDATE users SET factor_at = $4, factor_step = $3"
                " WHERE id = $1 AND factor_seed = $2 AND factor_at IS NULL",
                (user_id, seed, step, now_ms()),
                must=BAD_CODE,
            ),
            *kept,
            *also,
        )
        return codes

    async def spent(self, user_id: str, code: str) -> Statement:
        """What spends a code of the app, or a recovery code: unmet as `BAD_CODE` if it was spent already. Raises
        `AccountError` (bad_code, factor_unreadable)."""
        typed = normal(code)
        if len(typed) != DIGITS:
            spend = "DELETE FROM recovery_code WHERE user_id = $1 AND digest = $2"
            return Statement(spend, (user_id, digest(typed)), must=BAD_CODE)
        seed, step = await self._step(user_id, typed)
        return Statement(
            "UPDATE users SET factor_step = $3"
            " WHERE id = $1 AND factor_seed = $2 AND factor_step < $3 AND factor_at IS NOT NULL",
            (user_id, seed, step),
            must=BAD_CODE,
        )

    async def recovery_codes_left(self, user_id: str) -> int:
        """How many recovery codes were not used."""
        rows = await self._db.query("SELECT COUNT(*) AS n FROM recovery_code WHERE user_id = $1", user_id)
        return int(rows[0]["n"])

    async def _step(self, user_id: str, code: str) -> tuple[str, int]:
        """The seed of the person's app, and the time step that the code is of."""
        rows = await self._db.query("SELECT factor_seed, factor_key FROM users WHERE id = $1", user_id)
        if not rows or rows[0]["factor_seed"] is None:
            raise refusal(BAD_CODE)
        seed, key = str(rows[0]["factor_seed"]), self._key()
        if rows[0]["factor_key"] != mark_of(key):
            raise refusal("factor_unreadable")
        step = step_of(secret_of(key, seed, user_id), normal(code), now_ms())
        if step is None:
            raise refusal(BAD_CODE)
        return seed, step

    async def _commit(self, *statements: Statement) -> None:
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise refusal(unmet.name) from unmet


def renewed(user_id: str) -> tuple[tuple[str, ...], list[Statement]]:
    """New recovery codes, and the statements that put their digests in place of all earlier ones."""
    codes = tuple(new_code(_GROUPS) for _ in range(RECOVERY_CODES))
    places = ", ".join(f"($1, ${n})" for n in range(2, RECOVERY_CODES + 2))
    digests = (digest(normal(code)) for code in codes)
    return codes, [
        Statement("DELETE FROM recovery_code WHERE user_id = $1", (user_id,)),
        Statement(f"INSERT INTO recovery_code (user_id, digest) VALUES {places}", (user_id, *digests)),
    ]


def removed(user_id: str, must: str) -> list[Statement]:
    """The statements that end a person's second factor; unmet as `must` if there is none."""
    return [
        Statement(
            "UPDATE users SET factor_seed = NULL, factor_key = NULL, factor_step = 0, factor_at = NULL"
            " WHERE id = $1 AND factor_at IS NOT NULL",
            (user_id,),
            must=must,
        ),
        Statement("DELETE FROM recovery_code WHERE user_id = $1", (user_id,)),
    ]


def refusal(code: str) -> AccountError:
    """The error with this code of `WORDS`."""
    return AccountError(code, WORDS[code])
