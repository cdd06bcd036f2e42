"""Opaque secrets of 256 bits: cookie tokens and API keys. Only their SHA-256 is stored.

A fast hash is right here: a random 256-bit secret cannot be guessed, however cheap a guess is.
"""

import hashlib
import re
import secrets

KEY_PREFIX = "sk-parley-"
SHOWN = len(KEY_PREFIX) + 4
"""How many characters of a key are kept readable, so that a person can tell their keys apart."""

HOST_ONLY = "h."
"""How a cookie's token begins that was given under a `__Host-` name."""

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_TOKEN = re.compile(rf"({re.escape(HOST_ONLY)})?{_SECRET.pattern}")


def new_token(*, host_only: bool = False) -> str:
    """256 random bits in 43 URL-safe characters, behind `HOST_ONLY` if it is for a `__Host-` cookie."""
    return (HOST_ONLY if host_only else "") + secrets.token_urlsafe(32)


def new_key() -> str:
    """An API key: `sk-parley-` and a token."""
    return KEY_PREFIX + new_token()


def is_token(text: str) -> bool:
    """Whether it has a token's form; what has not need not be looked up."""
    return _TOKEN.fullmatch(text) is not None


def is_host_token(token: str) -> bool:
    """Whether the token was made for a `__Host-` cookie."""
    return token.startswith(HOST_ONLY)


def is_key(text: str) -> bool:
    """Whether it has an API key's form."""
    return text.startswith(KEY_PREFIX) and _SECRET.fullmatch(text[len(KEY_PREFIX) :]) is not None


def digest(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
