"""Passwords: which may be chosen, and argon2id, off the event loop. It does not know whose they are."""

import unicodedata
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chat_app.accounts.hash_queue import HashQueue
from chat_app.accounts.identity import AccountError
from chat_app.accounts.strength import weakness

SHORTEST, LONGEST = 12, 512

RULE = f"At least {SHORTEST} characters, and not easy to guess: a few unrelated words will do."
"""What is asked of a new password. Every place that says so says this."""
BOUNDS = f"A password has {SHORTEST} to {LONGEST} characters, not all of them blanks."
SHORT = f"Your password has fewer than the {SHORTEST} characters that a new one needs."
EASY = "This password is easy to guess."
WHY = "It is a common one, a pattern, or close to your name or your e-mail address."
"""Where no more is known, or may be said."""
BETTER = "Use a few unrelated words, or let a password manager make one."

# OWASP's first recommendation (46 MiB, one lane) with three passes instead of one: about 0.1 s on a laptop.
HASHER = PasswordHasher(time_cost=3, memory_cost=47_104, parallelism=1)

# Compared with when there is no such account, so that an unknown address takes as long as a wrong password.
# The hash of a random password that nobody kept, made with HASHER's parameters (a test holds them equal).
_NOBODY = "$argon2id$v=19$m=47104,t=3,p=1$LEaq/B2vYwbdxIdzX7c0UQ$BlnVzFzNWoi5781E0ACmeP53DAAzjyCc5gA6dds4dJA"


def checked(password: str) -> str:
    """The password, if it has a length that may be chosen. Raises `AccountError` (bad_password)."""
    if len(password) < SHORTEST:
        raise AccountError("bad_password", f"A password needs at least {SHORTEST} characters.")
    if len(password) > LONGEST:
        raise AccountError("bad_password", f"A password can have at most {LONGEST} characters.")
    if not password.strip():
        raise AccountError("bad_password", "A password cannot be made of blanks alone.")
    return password


class Passwords:
    """Hashes and compares, in threads, whoever's turn it is. `lane` and `known` as for `HashQueue.run`."""

    def __init__(self) -> None:
        self._queue = HashQueue()

    async def hashed(self, password: str, lane: str = "", *, about: Sequence[str] = (), known: bool = False) -> str:
        """The argon2id hash, with its parameters, of a password that may be chosen by somebody of whom `about` is
        known. Raises `AccountError` (bad_password, weak_password, busy)."""
        chosen = checked(password)
        return await self._queue.run(lane, lambda: HASHER.hash(_bytes(_strong(chosen, about))), known=known)

    async def hashed_again(self, password: str, lane: str = "", *, known: bool = False) -> str:
        """The same for a password that was chosen before, perhaps under another rule. Raises `AccountError` (busy)."""
        return await self._queue.run(lane, lambda: HASHER.hash(_bytes(password)), known=known)

    async def verified(self, password: str, hash_: str | None, lane: str = "", *, known: bool = False) -> bool:
        """Whether the password has this hash. Takes as long when there is none (None, or `NO_PASSWORD`), and then it
        never has. Raises `AccountError` (busy)."""
        raw = _bytes(password if len(password) <= LONGEST else "")  # Never a chosen one: the same time and no more.
        return await self._queue.run(lane, lambda: _matches(hash_ or _NOBODY, raw), known=known) and bool(hash_)


def outdated(hash_: str) -> bool:
    """Whether the hash was made with other parameters than today's, and should be made again at sign-in."""
    return HASHER.check_needs_rehash(hash_)


def _strong(password: str, about: Sequence[str]) -> str:
    """The password, if it is not easy to guess. Raises `AccountError` (weak_password)."""
    why = weakness(password, about)
    if why is not None:
        raise AccountError("weak_password", f"{EASY} {why or WHY} {BETTER}")
    return password


def _matches(hash_: str, password: bytes) -> bool:
    try:
        return HASHER.verify(hash_, password)
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    # The same password typed on two keyboards may arrive in two Unicode forms.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
