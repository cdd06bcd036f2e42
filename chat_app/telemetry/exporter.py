"""The schedule of exports: every few minutes, on one replica of all.

Who exports is settled by the lease `export`; the export itself is safe even if two were to run. It does not know
the files' form, nor who else exports by hand.
"""

import asyncio

import structlog

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database, DatabaseUnavailable
from chat_app.data.ids import new_id
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.settings import Settings
from chat_app.telemetry.events import Events
from chat_app.telemetry.metrics import EVENTS_WAITING
from chat_app.telemetry.parquet import ExportBusy, ExportReport, export

MINUTE_S = 60.0
LEASE = "export"
LEASE_MS = 5 * 60_000
"""An export takes seconds; a replica that dies in one delays the next by this much at most."""

logger = structlog.get_logger(__name__)


class Exporter:
    """Exports on schedule between `start` and `close`; with `export_minutes` 0 never."""

    def __init__(self, db: Database, leases: Leases, settings: Settings) -> None:
        self._db = db
        self._leases = leases
        self._directory = settings.exports
        self._events = Events(db, settings)
        self._minutes = settings.export_minutes
        self._owner = new_id()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._minutes:
            self._task = asyncio.create_task(self._run(), name="exporter")

    async def close(self) -> None:
        """Stop the schedule; an export that is under way is broken off, and repeated by the next."""
        task, self._task = self._task, None
        await cancelled(task)

    async def export_now(self) -> ExportReport | None:
        """Export if there is anything to export and no other replica is at it. None if nothing was done."""
        # Asking first spares a quiet installation the libraries that an export needs.
        waiting = await self._events.waiting()
        EVENTS_WAITING.set(waiting)
        if not waiting:
            return None
        if not await self._leases.hold(LEASE, self._owner, LEASE_MS):
            return None
        try:
            report = await export(self._db, self._directory)
            EVENTS_WAITING.set(0)
            return report
        finally:
            await self._leases.release(LEASE, self._owner)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._minutes * MINUTE_S)
            try:
                report = await self.export_now()
                if report is not None:
                    logger.info("events exported", events=report.events, files=report.files)
            except (DatabaseUnavailable, LeasesUnavailable, ExportBusy, OSError) as error:
                logger.warning("events not exported, they wait for the next time", error=str(error))
            except Exception:
                logger.exception("export failed, events wait for the next time")
