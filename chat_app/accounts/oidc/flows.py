"""Who was sent to the provider and has not come back yet. A way back is good once, for the browser that left."""

import secrets
from dataclasses import dataclass

from chat_app.accounts.tokens import digest, new_token
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms

LASTS_MS = 10 * 60_000
"""How long somebody may take at the provider."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One way there and back. `link` is the account that asked to be connected; `fresh` as for the provider."""

    state: str
    nonce: str
    verifier: str
    onward: str
    link: str | None
    fresh: bool
    created_at: int


class Flows:
    """The table `oidc_flow`; each browser knows its row by a cookie."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, onward: str, *, link: str | None, fresh: bool, host_only: bool) -> tuple[str, Flow]:
        """A new way, and the token for the browser's cookie. Those who did not come back in time are forgotten."""
        token = new_token(host_only=host_only)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, onward, link, fresh, now_ms())
        await self._db.batch(
            Statement("DELETE FROM oidc_flow WHERE created_at <= $1", (flow.created_at - LASTS_MS,)),
            Statement(
                "INSERT INTO oidc_flow (id, state, nonce, verifier, onward, link, fresh, created_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                (digest(token), state, nonce, verifier, onward, link, int(fresh), flow.created_at),
            ),
        )
        return token, flow

    async def end(self, token: str, state: str) -> Flow | None:
        """The way that this browser is on, which is over now; None if there is none, with that state and in time."""
        [[*rows]] = await self._db.batch(
            Statement(
                "DELETE FROM oidc_flow WHERE id = $1 AND state = $2 AND created_at > $3 RETURNING *",
                (digest(token), state, now_ms() - LASTS_MS),
            )
        )
        if not rows:
            return None
        row = dict(rows[0])
        del row["id"]
        return Flow(**{**row, "fresh": bool(row["fresh"])})
