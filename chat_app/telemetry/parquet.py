"""The export of events from the outbox to Parquet files: every event in exactly one file, whatever happens.

Events of one hour (UTC) share one file, `turns/day=YYYY-MM-DD/turns-HH.parquet`, so a day has at most 24. To export
an event is to add it to its hour's file: read the file, join the new events by their id, write the whole beside it,
flush it to the disk, rename it into place; only then is the event marked in the database. After a crash in between,
the same events are joined again and the file comes out the same. Readers see the old file or the new one. A file that
cannot be read is set aside and made anew from what the outbox still has, which is a week.

One export at a time: a lock on the directory holds off others on it, and the kernel frees it when its holder dies.
Replicas on several machines share the directory; who exports is then settled by a lease (`exporter`).
It does not know what reads the files.
"""

import asyncio
import fcntl
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from chat_app.data.db.base import Database, Row, Statement
from chat_app.data.ids import now_ms
from chat_app.telemetry.events import ColumnType, columns, day_of

if TYPE_CHECKING:
    import polars

BATCH = 20_000
"""Events taken out of the database at a time."""
MARKED_AT_ONCE = 400
HOUR_MS = 3_600_000
KEEP_MS = 7 * 24 * HOUR_MS
"""How long an exported event stays in the outbox."""
PATIENCE_S = 60.0
"""How long an export waits for another one on the same directory."""


logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Damaged(Exception):
    """A file of events cannot be read; it was set aside."""


class ExportBusy(Exception):
    """Another export has held the directory for longer than it may take."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export did."""

    events: int
    files: int
    directory: Path

    def __str__(self) -> str:
        if not self.events:
            return f"Nothing new to export; the files are in {self.directory}."
        events = "1 event" if self.events == 1 else f"{self.events:,} events"
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        return f"Exported {events} to {files} in {self.directory}."


async def export(db: Database, directory: Path) -> ExportReport:
    """Move all waiting events into Parquet files under `directory`.

    Raises `DatabaseUnavailable`, `OSError` (disk full) or `ExportBusy`; what was not exported then waits.
    """
    events, touched = 0, set[Path]()
    async with _only_one(directory):
        while waiting := await db.query(
            "SELECT id, at, payload FROM event WHERE kind = 'turn' AND exported_at IS NULL ORDER BY id LIMIT $1", BATCH
        ):
            for path, rows in _by_file(directory, waiting).items():
                adding = asyncio.ensure_future(asyncio.to_thread(_add, path, rows))
                try:
                    await asyncio.shield(adding)
                except Damaged as error:
                    logger.error("an exported file was damaged and is made anew", error=str(error))
                    await _again(db, rows[0]["at"] // HOUR_MS * HOUR_MS)
                    continue
                finally:
                    await asyncio.wait((adding,))  # A thread goes on when we are cancelled: the lock must stay with it.
                await _mark(db, [row["id"] for row in rows])
                touched.add(path)
                events += len(rows)
        await db.batch(Statement("DELETE FROM event WHERE exported_at < $1", (now_ms() - KEEP_MS,)))
    return ExportReport(events, len(touched), directory)


def _by_file(directory: Path, rows: Sequence[Row]) -> dict[Path, list[Row]]:
    files: dict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        hour = row["at"] // HOUR_MS % 24
        files[directory / "turns" / f"day={day_of(row['at'])}" / f"turns-{hour:02}.parquet"].append(row)
    return files


async def _again(db: Database, hour: int) -> None:
    """Let all that the outbox still has of this hour wait for its export again."""
    unmark = "UPDATE event SET exported_at = NULL WHERE kind = 'turn' AND at >= $1 AND at < $2"
    await db.batch(Statement(unmark, (hour, hour + HOUR_MS)))


async def _mark(db: Database, ids: Sequence[str]) -> None:
    """Note that these lie in a file. A part of them may be marked when it fails: the rest is exported again."""
    for start in range(0, len(ids), MARKED_AT_ONCE):
        part = ids[start : start + MARKED_AT_ONCE]
        places = ", ".join(f"${n}" for n in range(2, len(part) + 2))
        await db.batch(Statement(f"UPDATE event SET exported_at = $1 WHERE id IN ({places})", (now_ms(), *part)))


def _add(path: Path, rows: Sequence[Row]) -> None:
    """Add events to a file, each once, and have the file on the disk when it returns. Raises `Damaged`."""
    import polars

    try:
        parts = [polars.read_parquet(path)] if path.exists() else []
    except polars.exceptions.PolarsError as error:
        aside = path.with_name(f"{path.name}.damaged-{now_ms()}")
        path.replace(aside)
        raise Damaged(f"{aside}: {error}") from error
    new = frame([{**orjson.loads(row["payload"]), "event_id": row["id"], "at_ms": row["at"]} for row in rows])
    whole = (
        polars.concat([*parts, new], how="diagonal_relaxed")
        .unique("event_id", keep="first", maintain_order=True)
        .sort("at_ms", "event_id")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        whole.write_parquet(file, compression="zstd", statistics=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _flush(path.parent)
    _flush(path.parent.parent)


def frame(turns: Sequence[Mapping[str, Any]]) -> "polars.DataFrame":
    """Turns as a table with exactly the columns of the schema; what a turn lacks is null. No turns: an empty table."""
    import polars

    kinds: dict[ColumnType, Any] = {"string": polars.String, "int": polars.Int64, "float": polars.Float64}
    schema = {name: kinds[kind] for name, kind in columns().items()}
    rows = [{name: turn.get(name) for name in schema} | {"day": day_of(turn["at_ms"])} for turn in turns]
    return polars.DataFrame(rows, schema=schema)


def _flush(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _only_one(directory: Path) -> AsyncIterator[None]:
    descriptor = await asyncio.to_thread(_lock_file, directory)
    try:
        for _ in range(int(PATIENCE_S * 20)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        else:
            raise ExportBusy(f"Another export has been at work in {directory} for more than {PATIENCE_S:.0f} s.")
        yield
    finally:
        os.close(descriptor)


def _lock_file(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
