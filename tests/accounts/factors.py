"""People with a second factor, their authenticator app, and a clock that the test sets."""

from dataclasses import dataclass

import pyotp

from chat_app.accounts.identity import Identity, SecondFactorNeeded
from chat_app.accounts.people import Accounts
from chat_app.accounts.totp import STEP_S

PASSWORD = "correct horse battery"


@dataclass
class Clock:
    """Where the test stands in time, in steps of codes."""

    step: int = 60_000_000

    def ms(self) -> int:
        return self.step * STEP_S * 1000 + 7_000


@dataclass(frozen=True)
class App:
    """An authenticator app with a secret."""

    secret: str
    clock: Clock

    def code(self, late: int = 0) -> str:
        """What it shows now, or `late` steps ago."""
        return pyotp.TOTP(self.secret).generate_otp(self.clock.step - late)


async def with_factor(
    accounts: Accounts, who: Identity, clock: Clock, *, keep: str = ""
) -> tuple[App, tuple[str, ...]]:
    """Set up a second factor for the person; their app, at the next step, and their recovery codes. Of their sessions
    that with the token `keep` stays."""
    app = App((await accounts.set_up_second_factor(who, PASSWORD)).secret, clock)
    codes = await accounts.confirm_second_factor(who.user_id, app.code(), keep=keep)
    clock.step += 1
    return app, codes


async def half(accounts: Accounts, email: str = "ada@example.org", password: str = PASSWORD) -> str:
    """The proof of somebody who has given the password, and not yet the code."""
    try:
        await accounts.sign_in(email, password)
    except SecondFactorNeeded as needed:
        return needed.proof
    raise AssertionError("nobody asked for a code")
