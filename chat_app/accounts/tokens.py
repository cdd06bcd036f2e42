"""Opaque secrets of 256 bits: cookie tokens and API keys. Only their SHA-256 is stored.

A fast hash is right here: a random 256-bit secret cannot be guessed, however cheap a guess is.
"""

import hashlib
import re
import secrets

KEY_PREFIX = "sk-parley-"
SHOWN = len(KEY_PREFIX) + 4
"""How many characters of a key are kept readable, so that a person can tell their keys apart."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """43 URL-safe characters, 256 random bits."""
    return secrets.token_urlsafe(32)


def new_key() -> str:
    """An API key: `sk-parley-` and a token."""
    return KEY_PREFIX + new_token()


def is_token(text: str) -> bool:
    """Whether it has a token's form; what has not need not be looked up."""
    return _TOKEN.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether it has an API key's form."""
    return text.startswith(KEY_PREFIX) and is_token(text[len(KEY_PREFIX) :])


def digest(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
