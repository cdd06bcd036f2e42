"""Closing an account: what it takes, what goes, and what stops.

In one transaction the account ends with its sessions and keys, and its chats are deleted; the purge removes them within
the hour. Calls of the API keep their record for as long as the settings say, the ledger its ids and figures for good.
"""

from contextlib import suppress

from chat_app.accounts.attempts import Hit
from chat_app.accounts.people import Accounts
from chat_app.accounts.self_service import closing_refusal
from chat_app.data.db.base import Database, DatabaseUnavailable, Unmet
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.sessions.generations import Generations
from chat_app.sessions.removal import deleted_with


class Closing:
    """Closes accounts."""

    def __init__(self, db: Database, log: GenerationLog, accounts: Accounts, generations: Generations) -> None:
        self._db = db
        self._log = log
        self._accounts = accounts
        self._generations = generations

    async def close(
        self, user_id: str, password: str, code: str = "", *, address: str = "", hit: Hit | None = None
    ) -> None:
        """Close the person's account for good; their answers that are being written are stopped and settled.

        `code` is of their second factor, if they have one. Raises `AccountError` (bad_credentials, bad_code,
        last_admin, too_many_attempts), `DatabaseUnavailable`. A stop that cannot be posted now is no error: an
        answer in a chat is stopped by its owner's next heartbeat, a call by the end of its key, unless it is detached.
        """
        ending = await self._accounts.closing(user_id, password, code, address=address, hit=hit)
        try:
            await self._db.batch(*ending, deleted_with(user_id))
        except Unmet as unmet:
            raise closing_refusal(unmet) from unmet
        with suppress(DatabaseUnavailable, LogUnavailable):
            for generation_id in await self._generations.written_for(user_id):
                await self._log.request_stop(generation_id)
