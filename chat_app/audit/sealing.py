"""Puts what was written into one chain, within about a second and in one order, however many processes write.

Each replica looks; whoever comes first moves the head on, and that very statement refuses all who read the head before:
two that seal at once need no lease. It does not know what an entry says.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from chat_app.audit.chain import Head
from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database, DatabaseUnavailable, Row, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.tables.audit import NOT_SEALED

EVERY_S = 1.0
CLOSING_S = 3.0
"""How long a process that ends waits for its last sealing."""
AT_ONCE = 100
"""Most entries that one transaction seals: four values each, and SQLite takes 999."""
SAID_MS = 3_600_000
"""How often the head goes into the log, which often lies elsewhere and is then a note of it."""
FIRST_MS = 60_000
"""Not at once: a start says other things, to people who wait for it."""
BEHIND = "another replica has sealed"
logger = structlog.get_logger(__name__)


class Sealer:
    """Seals on schedule between `start` and `close`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._task: asyncio.Task[None] | None = None
        self._said_at = now_ms() - SAID_MS + FIRST_MS

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="audit sealer")

    async def close(self) -> None:
        """Seal what there is, unless the database is away, and stop. What is left the next start seals."""
        task, self._task = self._task, None
        await cancelled(task)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._attempt()

    async def seal(self) -> int:
        """Seal everything that is not sealed; returns how many entries this call sealed. Raises `DatabaseUnavailable`,
        and `LookupError` if the head is gone."""
        sealed = 0
        while count := await self._some():
            sealed += count
        return sealed

    async def _some(self) -> int:
        # The head first: what somebody else seals from here on moves it, and then this attempt changes nothing.
        head = await head_of(self._db)
        rows = await self._db.query(f"SELECT id, digest FROM audit WHERE {NOT_SEALED} ORDER BY id LIMIT {AT_ONCE}")
        if not rows:
            return 0
        chain, move = _sealed(head, rows)
        try:
            await self._db.batch(move, chain)
        except Unmet:
            return 0
        return len(rows)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._attempt()

    async def _attempt(self) -> None:
        try:
            if await self.seal() and now_ms() - self._said_at > SAID_MS:
                self._said_at = now_ms()
                logger.info("head of the audit trail", head=str(await head_of(self._db)))
        except DatabaseUnavailable as error:
            logger.warning("audit entries wait to be sealed", error=str(error))
        except Exception:
            logger.exception("audit entries cannot be sealed")


async def head_of(db: Database) -> Head:
    """Where the chain ends. Raises `LookupError` if that is not known: somebody has removed it."""
    rows = await db.query("SELECT seq, hash FROM audit_head WHERE id = 'chain'")
    if not rows:
        raise LookupError("the head of the audit trail is gone")
    return Head(rows[0]["seq"], rows[0]["hash"])


def _sealed(head: Head, rows: Sequence[Row]) -> tuple[Statement, Statement]:
    """What gives these entries their places behind `head`, and what moves the head on."""
    params: list[str | int] = []
    last = head
    for row in rows:
        prev, last = last, last.next(row["digest"])
        params += [row["id"], last.seq, prev.hash, last.hash]
    places = ", ".join(
        f"(CAST(${n} AS VARCHAR), CAST(${n + 1} AS BIGINT), CAST(${n + 2} AS VARCHAR), CAST(${n + 3} AS VARCHAR))"
        for n in range(1, len(params), 4)
    )
    chain = Statement(
        "UPDATE audit SET seq = sealed.column2, prev = sealed.column3, hash = sealed.column4"
        f" FROM (VALUES {places}) AS sealed WHERE audit.id = sealed.column1 AND audit.{NOT_SEALED}",
        tuple(params),
        must=BEHIND,
    )
    move = Statement(
        "UPDATE audit_head SET seq = $1, hash = $2 WHERE id = 'chain' AND seq = $3 AND hash = $4",
        (last.seq, last.hash, head.seq, head.hash),
        must=BEHIND,
    )
    return chain, move
