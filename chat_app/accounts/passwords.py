"""Passwords: argon2id, off the event loop. It does not know whose they are."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chat_app.accounts.identity import AccountError

T = TypeVar("T")

SHORTEST, LONGEST = 8, 512

# OWASP's first recommendation (46 MiB, one lane) with three passes instead of one: about 0.1 s on a laptop.
HASHER = PasswordHasher(time_cost=3, memory_cost=47_104, parallelism=1)

# argon2 releases the GIL. Two at a time bound what a flood of sign-ins can take: two cores and 92 MiB.
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")

# Compared with when there is no such account, so that an unknown address takes as long as a wrong password.
# The hash of a random password that nobody kept, made with HASHER's parameters (a test holds them equal).
_NOBODY = "$argon2id$v=19$m=47104,t=3,p=1$LEaq/B2vYwbdxIdzX7c0UQ$BlnVzFzNWoi5781E0ACmeP53DAAzjyCc5gA6dds4dJA"


def checked(password: str) -> str:
    """The password in the form that is hashed. Raises `AccountError` (bad_password) if it may not be
    chosen."""
    if len(password) < SHORTEST:
        raise AccountError("bad_password", f"A password needs at least {SHORTEST} characters.")
    if len(password) > LONGEST:
        raise AccountError("bad_password", f"A password can have at most {LONGEST} characters.")
    if not password.strip():
        raise AccountError("bad_password", "A password cannot be made of blanks alone.")
    return password


async def hashed(password: str) -> str:
    """The argon2id hash, with its parameters, of a password that may be chosen. Raises `AccountError`
    (bad_password)."""
    return await _aside(HASHER.hash, _bytes(checked(password)))


async def verified(password: str, hash_: str | None) -> bool:
    """Whether the password has this hash. Takes as long when there is none."""
    if len(password) > LONGEST:
        password = ""  # Never a chosen password; spend the same time and no more.
    return await _aside(_matches, hash_ or _NOBODY, _bytes(password)) and hash_ is not None


def outdated(hash_: str) -> bool:
    """Whether the hash was made with other parameters than today's, and should be made again at sign-in."""
    return HASHER.check_needs_rehash(hash_)


def _matches(hash_: str, password: bytes) -> bool:
    try:
        return HASHER.verify(hash_, password)
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    # The same password typed on two keyboards may arrive in two Unicode forms.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


async def _aside(work: Callable[..., T], *args: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *args)
