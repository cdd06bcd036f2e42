"""How often somebody may try to come in. It does not know whether they succeed.

An account that strangers try to get into stays open for its owner: a device or an address that has signed in to it
before is counted by itself, and only strangers share what is left for them.
"""

from typing import NamedTuple, Protocol

from chat_app.accounts.identity import AccountError

PER_ADDRESS = 60
"""Attempts a minute from one network address to sign in or up or to change a password, whatever the account."""
PER_EMAIL = 10
"""Attempts a minute to sign in to one account: from one address, or by one device that is known."""
STRANGERS, STRANGERS_AT_ONCE = 1, 30
"""Attempts a minute to sign in to one account, and how many may come at once: from all addresses that have never
signed in to it, taken together."""
CODES, CODES_AT_ONCE = 1, 10
"""Codes of a second factor a minute, and how many may come at once. A million codes, three of them good at a time: who
knows the password and tries all day finds one in 200 days."""
SIGNED_IN = "signed-in"


class Hit(Protocol):
    """`Limits.hit`: counts an event under a key; returns 0, or milliseconds to wait."""

    async def __call__(self, key: str, per_minute: int, burst: int | None = None) -> int: ...


class Limit(NamedTuple):
    """What is counted, and how much of it passes."""

    key: str
    per_minute: int
    burst: int | None = None


async def admit(hit: Hit | None, *limits: Limit) -> None:
    """Count an attempt against each limit; without `hit` (the command line) nothing is bounded. Raises `AccountError`
    (too_many_attempts) at the first that is passed."""
    for limit in limits if hit else ():
        wait_ms = await hit(*limit) if hit else 0
        if wait_ms:
            seconds = -(-wait_ms // 1000)
            message = f"Too many attempts. Wait {seconds} second{'s'[: seconds != 1]} and try again."
            raise AccountError("too_many_attempts", message, seconds)


def from_address(address: str) -> Limit:
    """What every attempt counts against, before anything is looked up."""
    return Limit(f"sign-in:from:{address}", PER_ADDRESS)


def to_account(account: str, address: str, device: str, *, known_device: bool, known_address: bool) -> list[Limit]:
    """What an attempt to sign in counts against. `account` and `device` stand for themselves (digests)."""
    if known_device:
        return [Limit(f"sign-in:to:{account}:by:{device}", PER_EMAIL)]
    here = Limit(f"sign-in:to:{account}:from:{address}", PER_EMAIL)
    return [here] if known_address else [here, Limit(f"sign-in:to:{account}", STRANGERS, STRANGERS_AT_ONCE)]


def to_code(user_id: str, by: str) -> Limit:
    """What an attempt at a code of a second factor counts against. `by`: the digest of a device that is known to the
    account, `SIGNED_IN`, or '' for all others, who know the password and are strangers."""
    return Limit(f"code:of:{user_id}:by:{by}", CODES, CODES_AT_ONCE)
