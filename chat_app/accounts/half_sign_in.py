"""Sign-ins that wait for the code of a second factor: between the right password and the right code.

Whoever gave the password holds a token of its own kind, which is good for the code form and nothing else, a few minutes
long and once. It does not know what makes a code right.
"""

from chat_app.accounts.devices import COUNTS
from chat_app.accounts.tokens import digest, new_token
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms

LASTS_MS = 5 * 60_000

FIND = (
    "SELECT h.password, u.id, u.password_hash, u.disabled_at, "
    f"{COUNTS} FROM half_sign_in h JOIN users u ON u.id = h.user_id"
    " WHERE h.id = $1 AND h.expires_at > $5 AND u.factor_at IS NOT NULL"
)
"""The one with the digest $1 at the moment $5, and its person; $2 to $4 as `devices.counted` returns them."""


def begun(user_id: str, password_hash: str, *, host_only: bool) -> tuple[str, list[Statement]]:
    """A new token, for a cookie, and the statements that make it good for as long as the person's password has this
    hash. `host_only` as for `new_token`."""
    token, now = new_token(host_only=host_only), now_ms()
    return token, [
        Statement("DELETE FROM half_sign_in WHERE user_id = $1 AND expires_at <= $2", (user_id, now)),
        Statement(
            "INSERT INTO half_sign_in (id, user_id, password, expires_at) VALUES ($1, $2, $3, $4)",
            (digest(token), user_id, digest(password_hash), now + LASTS_MS),
        ),
    ]


def ended(token: str, must: str) -> Statement:
    """Nobody can use the token again; unmet as `must` if it was not good any more."""
    return Statement("DELETE FROM half_sign_in WHERE id = $1 AND expires_at > $2", (digest(token), now_ms()), must=must)


def outdated() -> Statement:
    """Remove those that have expired."""
    return Statement("DELETE FROM half_sign_in WHERE expires_at <= $1", (now_ms(),))


def forgotten(user_id: str) -> Statement:
    """Remove all of a person."""
    return Statement("DELETE FROM half_sign_in WHERE user_id = $1", (user_id,))
