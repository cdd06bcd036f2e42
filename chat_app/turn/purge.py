"""The purge: what was deleted, and what has outlived its time, is removed for good.

Every few minutes on one replica of all, which the lease `purge` settles; the work itself is safe even if two were at
it. Of a deleted thread goes everything: messages, answers, their steps, checkpoints, logs and reviews. So does all of a
call of the API but its text, which is gone long before, when it has been kept for as long as the settings say. The
ledger and the events stay: they hold figures and ids, and nothing of what was said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from chat_app.accounts.people import Accounts
from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database, DatabaseUnavailable
from chat_app.data.ids import new_id, now_ms
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.data.log.base import GenerationLog, LogUnavailable
from chat_app.safety.review import Reviews
from chat_app.sessions.removal import Removal, deleted_with
from chat_app.settings import Settings

FIRST_S, MINUTE_S = 60.0, 60.0
"""After a start, what was running is first taken up again; a laptop that is on for minutes purges all the same."""
LEASE = "purge"
LEASE_MS = 60_000
"""Renewed with every batch: a replica that dies in a purge delays the next by this much at most."""
DAY_MS = 86_400_000
KEPT_KEYS_MS = 90 * DAY_MS
"""How long the row of a key stays after it has expired or was revoked."""
logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Purged:
    """How much one purge removed."""

    threads: int = 0
    calls: int = 0
    sessions: int = 0


class Purge:
    """Purges on schedule between `start` and `close`."""

    def __init__(
        self,
        db: Database,
        log: GenerationLog,
        leases: Leases,
        removal: Removal,
        reviews: Reviews,
        accounts: Accounts,
        settings: Settings,
    ) -> None:
        self._db = db
        self._log = log
        self._leases = leases
        self._removal = removal
        self._reviews = reviews
        self._accounts = accounts
        self._every_s = settings.purge_minutes * MINUTE_S
        self._keep_ms = settings.keep_calls_days * DAY_MS
        self._owner = new_id()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="purge")

    async def close(self) -> None:
        """Stop the schedule; a purge that is under way is broken off, and the next one goes on with it."""
        task, self._task = self._task, None
        await cancelled(task)

    async def purge_now(self) -> Purged | None:
        """Remove all that is due. None if another replica is at it. Raises `DatabaseUnavailable`, `LogUnavailable`,
        `LeasesUnavailable`; what was not removed then waits for the next purge."""
        if not await self._leases.hold(LEASE, self._owner, LEASE_MS):
            return None
        try:
            await self._log.sweep()
            await self._accounts.forget_keys(now_ms() - KEPT_KEYS_MS)
            await self._closed()
            purged = Purged(
                sessions=await self._accounts.forget_expired(), threads=await self._threads(), calls=await self._calls()
            )
            # Every time: what an earlier purge removed may not have left the files yet.
            await self._log.wipe()
            await self._db.wipe()
            return purged
        finally:
            await self._leases.release(LEASE, self._owner)

    async def _closed(self) -> None:
        """Delete what began in the very moment in which its person's account was closed."""
        for user_id in await self._accounts.closed_with_chats():
            await self._db.batch(deleted_with(user_id))

    async def _threads(self) -> int:
        removed = 0
        while due := await self._removal.deleted_threads():
            for thread_id in due:
                await self._all(partial(self._removal.answers_in, thread_id))
                while not await self._removal.thread(thread_id):
                    await self._go_on()
                removed += 1
        return removed

    async def _calls(self) -> int:
        before = now_ms() - self._keep_ms
        return await self._all(partial(self._removal.calls_before, before))

    async def _all(self, next_: Callable[[], Awaitable[Sequence[str]]]) -> int:
        """Remove answers until `next_` knows no more. Their logs go first: it is the rows that say which there are."""
        removed = 0
        while ids := await next_():
            await self._go_on()
            await self._log.forget(ids)
            await self._db.batch(self._reviews.remove(ids), *self._removal.answers(ids))
            removed += len(ids)
        return removed

    async def _go_on(self) -> None:
        if not await self._leases.hold(LEASE, self._owner, LEASE_MS):
            raise LeasesUnavailable("another replica goes on with the purge")

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                purged = await self.purge_now()
                if purged not in (None, Purged()):
                    logger.info("purged", threads=purged.threads, calls=purged.calls, sessions=purged.sessions)
            except (DatabaseUnavailable, LogUnavailable, LeasesUnavailable) as error:
                logger.warning("purge broken off, the next one goes on", error=str(error))
            except Exception:
                logger.exception("purge failed, the next one goes on")
            await asyncio.sleep(self._every_s)
