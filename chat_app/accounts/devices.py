"""Browsers that somebody has signed in from before, and where that was. It does not know what that is good for.

Where is kept as a pseudonym of the network address, which its callers make; '' stands for one that nobody knows.
"""

from chat_app.accounts.tokens import digest
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms

MOST, FROM_ONE_ADDRESS = 20, 5
"""Devices kept for each account, those seen last, and of those from one address: a program that signs in without
keeping a cookie must not push out the browsers."""
KNOWN_MS = 365 * 86_400_000
"""How long a device is known, and kept, after its last sign-in, in milliseconds."""
AT_ONCE = 1_000
"""Most devices that one statement forgets."""

COUNTS = (
    "(SELECT COUNT(*) FROM known_device d WHERE d.user_id = u.id AND d.id = $2 AND d.seen_at > $4) AS known_device,"
    " (SELECT COUNT(*) FROM known_device d WHERE d.user_id = u.id"
    " AND d.network = $3 AND d.network <> '' AND d.seen_at > $4) AS known_address"
)
"""Columns beside `users u` in a query that `counted` gives $2, $3 and $4."""


def counted(device: str, network: str) -> tuple[str, str, int]:
    """The parameters of `COUNTS` for an attempt from this network, by the device with this token ('' for none)."""
    return digest(device) if device else "", network, now_ms() - KNOWN_MS


def seen(user_id: str, device: str, network: str) -> list[Statement]:
    """Note that somebody has signed in by this device from this network."""
    return [
        Statement(
            "INSERT INTO known_device (user_id, id, network, seen_at)"
            " SELECT u.id, $2, $3, CAST($4 AS BIGINT) FROM users u WHERE u.id = $1"
            " ON CONFLICT (user_id, id) DO UPDATE SET network = excluded.network, seen_at = excluded.seen_at",
            (user_id, digest(device), network, now_ms()),
        ),
        Statement(
            "DELETE FROM known_device WHERE user_id = $1 AND (id NOT IN"
            f" (SELECT id FROM known_device WHERE user_id = $1 ORDER BY seen_at DESC, id LIMIT {MOST})"
            " OR (network = $2 AND id NOT IN (SELECT id FROM known_device WHERE user_id = $1 AND network = $2"
            f" ORDER BY seen_at DESC, id LIMIT {FROM_ONE_ADDRESS})))",
            (user_id, network),
        ),
    ]


def outdated() -> Statement:
    """Forget some of the devices that are known no more, at most `AT_ONCE`; returns their ids."""
    return Statement(
        "DELETE FROM known_device WHERE (user_id, id) IN"
        f" (SELECT user_id, id FROM known_device WHERE seen_at <= $1 LIMIT {AT_ONCE}) RETURNING id",
        (now_ms() - KNOWN_MS,),
    )


def forgotten(user_id: str) -> Statement:
    """Forget every device of an account."""
    return Statement("DELETE FROM known_device WHERE user_id = $1", (user_id,))
