"""The export: every event in exactly one file, also when the exporter is killed at the worst moment."""

import asyncio
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms
from chat_app.settings import Settings
from chat_app.telemetry import parquet
from chat_app.telemetry.events import Events, columns
from chat_app.telemetry.parquet import ExportBusy, export, frame
from tests.telemetry.turns import DAY, HOUR, NOON, turn


def exported(directory: Path) -> pl.DataFrame:
    return pl.read_parquet(directory / "turns/**/*.parquet", missing_columns="insert").sort("event_id")


def ids(numbers: "range | list[int]") -> list[str]:
    return [f"{number:032x}" for number in numbers]


async def record(db: Database, events: Events, numbers: "range | list[int]", at_ms: int = NOON) -> None:
    await db.batch(*(events.turn(turn(number, at_ms)) for number in numbers))


async def test_events_land_in_the_file_of_their_hour(db: Database, events: Events, tmp_path: Path) -> None:
    for number, at_ms in enumerate([NOON, NOON + HOUR - 1, NOON + HOUR, NOON + DAY]):
        await record(db, events, [number], at_ms)
    report = await export(db, tmp_path)
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.parquet"))
    assert files == [
        "turns/day=2026-11-23/turns-12.parquet",
        "turns/day=2026-11-23/turns-13.parquet",
        "turns/day=2026-11-24/turns-12.parquet",
    ]
    assert (report.events, report.files) == (4, 3)
    assert str(report) == f"Exported 4 events to 3 files in {tmp_path}."
    assert exported(tmp_path)["event_id"].to_list() == ids(range(4))


async def test_columns_types_and_values_survive(db: Database, events: Events, tmp_path: Path) -> None:
    await db.batch(events.turn(turn(7, ttft_ms=None, tokens_per_s=None, refused_rule="weapons.bomb", plan="größer")))
    await export(db, tmp_path)
    table = exported(tmp_path)
    assert table.schema == frame([]).schema
    assert list(table.columns) == list(columns())
    [row] = table.to_dicts()
    assert row["ttft_ms"] is None and row["tokens_per_s"] is None
    assert (row["day"], row["at_ms"], row["plan"]) == ("2026-11-23", NOON, "größer")
    assert (row["refused_rule"], row["completion_tokens"]) == ("weapons.bomb", 120)


async def test_a_second_export_adds_only_what_is_new(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(3))
    await export(db, tmp_path)
    await record(db, events, range(3, 5))
    report = await export(db, tmp_path)
    assert (report.events, report.files) == (2, 1)
    assert exported(tmp_path)["event_id"].to_list() == ids(range(5))
    again = await export(db, tmp_path)
    assert again.events == 0 and "Nothing new" in str(again)
    assert await events.waiting() == 0


async def test_more_events_than_a_batch(
    db: Database, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH", 7)
    monkeypatch.setattr(parquet, "MARKED_AT_ONCE", 3)
    await record(db, events, range(40))
    assert (await export(db, tmp_path)).events == 40
    assert exported(tmp_path)["event_id"].to_list() == ids(range(40))


@pytest.mark.parametrize(
    ("settings", "moment"),
    [
        *(("sqlite", moment) for moment in ("written", "renamed", "half marked")),
        ("postgresql", "renamed"),
    ],
    indirect=["settings"],
)
async def test_killed(db: Database, events: Events, settings: Settings, moment: str) -> None:
    await record(db, events, range(10))
    await export(db, settings.exports)
    await record(db, events, range(10, 20))
    script = Path(__file__).with_name("killed_export.py")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), str(settings.home), moment, settings.database_url.get_secret_value()),
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        stderr=asyncio.subprocess.PIPE,
    )
    _, trouble = await child.communicate()
    assert child.returncode == -signal.SIGKILL, trouble.decode()
    whole = exported(settings.exports)
    assert whole["event_id"].to_list() in (ids(range(10)), ids(range(20)))

    await record(db, events, [20])
    report = await export(db, settings.exports)
    table = exported(settings.exports)
    assert table["event_id"].to_list() == ids(range(21))
    assert report.events == (6 if moment == "half marked" else 11)
    assert await events.waiting() == 0
    assert [file.name for file in settings.exports.rglob(".*")] == [".lock"]


async def test_the_same_events_give_the_same_file(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(50))
    await export(db, tmp_path)
    [file] = tmp_path.rglob("*.parquet")
    before = file.read_bytes()
    await db.batch(type(events.turn(turn()))("UPDATE event SET exported_at = NULL"))
    assert (await export(db, tmp_path)).events == 50
    assert file.read_bytes() == before


async def test_many_exports_at_once_export_each_event_once(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(30))
    reports = await asyncio.gather(*(export(db, tmp_path) for _ in range(4)))
    assert sum(report.events for report in reports) == 30
    assert exported(tmp_path)["event_id"].to_list() == ids(range(30))


async def test_an_export_waits_its_turn_but_not_for_ever(
    db: Database, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PATIENCE_S", 0.2)
    await record(db, events, [1])
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ExportBusy):
            await export(db, tmp_path)
    assert (await export(db, tmp_path)).events == 1


async def test_an_export_that_is_broken_off_keeps_its_lock_while_it_still_writes(
    db: Database, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, add = threading.Event(), threading.Event(), parquet._add

    def slow(*arguments: Any) -> None:
        begun.set()
        go_on.wait(10)
        add(*arguments)

    await record(db, events, [1])
    with monkeypatch.context() as patched:
        patched.setattr(parquet, "_add", slow)
        first = asyncio.create_task(export(db, tmp_path))
        await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        await asyncio.sleep(0.05)
        with (tmp_path / ".lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert (await export(db, tmp_path)).events == 1
    assert exported(tmp_path)["event_id"].to_list() == ids([1])


async def test_a_disk_that_is_full_takes_nothing_back(
    db: Database, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(db, events, range(3))
    await export(db, tmp_path)
    await record(db, events, range(3, 6))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            await export(db, tmp_path)
    assert exported(tmp_path)["event_id"].to_list() == ids(range(3))
    assert await events.waiting() == 3
    await export(db, tmp_path)
    assert exported(tmp_path)["event_id"].to_list() == ids(range(6))


async def test_a_file_of_an_older_version_gets_the_new_columns(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(2))
    await export(db, tmp_path)
    [file] = tmp_path.rglob("*.parquet")
    pl.read_parquet(file).drop("route", "attempts").write_parquet(file)
    await record(db, events, [2])
    await export(db, tmp_path)
    assert exported(tmp_path)["route"].to_list() == [None, None, "default"]


async def test_a_damaged_file_is_set_aside_and_made_anew(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(3))
    await export(db, tmp_path)
    [file] = tmp_path.rglob("*.parquet")
    os.truncate(file, 200)
    await record(db, events, [3])
    await record(db, events, [4], NOON + HOUR)
    report = await export(db, tmp_path)
    assert (report.events, report.files) == (5, 2)
    assert exported(tmp_path)["event_id"].to_list() == ids(range(5))
    [aside] = file.parent.glob("*.damaged-*")
    assert aside.stat().st_size == 200


async def test_the_outbox_is_emptied_after_a_week(db: Database, events: Events, tmp_path: Path) -> None:
    await record(db, events, range(2))
    await export(db, tmp_path)
    assert len(await db.query("SELECT id FROM event")) == 2
    old = now_ms() - parquet.KEEP_MS - 1
    await db.batch(type(events.turn(turn()))("UPDATE event SET exported_at = $1 WHERE id = $2", (old, ids([0])[0])))
    await export(db, tmp_path)
    assert [row["id"] for row in await db.query("SELECT id FROM event")] == ids([1])
    await record(db, events, [2])
    await export(db, tmp_path)
    assert exported(tmp_path)["event_id"].to_list() == ids(range(3))
