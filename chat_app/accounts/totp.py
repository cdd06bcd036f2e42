"""Codes of an authenticator app (RFC 6238: six digits, one every 30 seconds, HMAC-SHA-1). It does not know whose.

The secret that an app holds is stored nowhere. It is derived from a key of the installation, a random seed and the
person's id: the database keeps the seed, and who has the database alone can make no code.
"""

import base64
import hashlib
import hmac
import secrets

import pyotp

STEP_S = 30
SKEW = 1
"""Steps by which the clocks of app and server may differ, either way."""
DIGITS = 6
ISSUER = "Parley"
_SECRET_BYTES = 20
"""As long as RFC 4226 recommends, and as authenticator apps expect."""


def new_seed() -> str:
    """128 random bits, in hex."""
    return secrets.token_hex(16)


def mark_of(key: bytes) -> str:
    """What tells one key from another, and nothing else about it."""
    return _derived(key, "mark").hex()[:16]


def secret_of(key: bytes, seed: str, user_id: str) -> str:
    """The app's secret, in base32."""
    return base64.b32encode(_derived(key, f"totp {user_id} {seed}")[:_SECRET_BYTES]).decode()


def address_of(secret: str, email: str) -> str:
    """The secret as the `otpauth://` address that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def step_of(secret: str, code: str, at_ms: int) -> int | None:
    """The time step that a code is of; None if it is of none that is accepted at this moment (milliseconds UTC)."""
    if not (len(code) == DIGITS and code.isascii() and code.isdigit()):
        return None
    app, now = pyotp.TOTP(secret), at_ms // 1000 // STEP_S
    steps = range(now - SKEW, now + SKEW + 1)
    return max((step for step in steps if hmac.compare_digest(app.generate_otp(step), code)), default=None)


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, f"parley second factor {purpose}".encode(), hashlib.sha256)
