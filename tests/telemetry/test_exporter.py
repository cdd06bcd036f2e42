"""The schedule: on one replica of all, again after trouble, and not at all when switched off."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from chat_app.data.db.base import Database, DatabaseUnavailable
from chat_app.settings import Settings
from chat_app.telemetry import exporter as schedule
from chat_app.telemetry.events import Events
from chat_app.telemetry.exporter import LEASE, Exporter
from chat_app.telemetry.metrics import REGISTRY
from tests.telemetry.turns import turn


class OneLease:
    """A lease in memory: enough of `Leases` to see who asks."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.names: set[str] = set()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        self.names.add(name)
        if self.holder not in (None, owner):
            return False
        self.holder = owner
        return True

    async def release(self, name: str, owner: str) -> None:
        if self.holder == owner:
            self.holder = None

    async def held(self, names: Iterable[str]) -> set[str]:
        return set(names) if self.holder else set()


@pytest.fixture
def leases() -> OneLease:
    return OneLease()


def files(settings: Settings) -> list[Path]:
    return list(settings.exports.rglob("*.parquet"))


async def until_exported(settings: Settings) -> None:
    async with asyncio.timeout(10):
        while not files(settings):
            await asyncio.sleep(0.01)


async def test_nothing_to_do_takes_no_lease(db: Database, leases: OneLease, settings: Settings) -> None:
    assert await Exporter(db, leases, settings).export_now() is None
    assert leases.names == set() and not settings.exports.exists()


async def test_only_one_replica_exports(db: Database, events: Events, leases: OneLease, settings: Settings) -> None:
    await db.batch(events.turn(turn(1)))
    leases.holder = "another replica"
    assert await Exporter(db, leases, settings).export_now() is None
    assert not files(settings) and await events.waiting() == 1
    leases.holder = None
    report = await Exporter(db, leases, settings).export_now()
    assert report is not None and report.events == 1
    assert leases.names == {LEASE} and leases.holder is None


async def test_waiting_events_are_a_figure(db: Database, events: Events, leases: OneLease, settings: Settings) -> None:
    await db.batch(events.turn(turn(1)), events.turn(turn(2)))
    leases.holder = "another replica"
    await Exporter(db, leases, settings).export_now()
    assert REGISTRY.get_sample_value("parley_events_waiting") == 2
    leases.holder = None
    await Exporter(db, leases, settings).export_now()
    assert REGISTRY.get_sample_value("parley_events_waiting") == 0


async def test_an_export_that_fails_gives_the_lease_to_the_next(
    db: Database, events: Events, leases: OneLease, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def troubled(*arguments: object) -> object:
        raise OSError("the disk is full")

    monkeypatch.setattr(schedule, "export", troubled)
    await db.batch(events.turn(turn(1)))
    with pytest.raises(OSError):
        await Exporter(db, leases, settings).export_now()
    assert leases.names == {LEASE} and leases.holder is None


async def test_the_schedule_goes_on_after_trouble(
    db: Database, events: Events, leases: OneLease, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    real = schedule.export

    async def troubled(*arguments: object) -> object:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise DatabaseUnavailable("the database is locked")
        if attempts == 2:
            raise RuntimeError("a bug")
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(schedule, "export", troubled)
    monkeypatch.setattr(schedule, "MINUTE_S", 0.01)
    await db.batch(events.turn(turn(1)))
    exporter = Exporter(db, leases, settings.model_copy(update={"export_minutes": 1}))
    await exporter.start()
    await until_exported(settings)
    await exporter.close()
    assert attempts == 3 and leases.holder is None


async def test_zero_minutes_switch_it_off(
    db: Database, events: Events, leases: OneLease, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MINUTE_S", 0.001)
    await db.batch(events.turn(turn(1)))
    exporter = Exporter(db, leases, settings.model_copy(update={"export_minutes": 0}))
    await exporter.start()
    await asyncio.sleep(0.1)
    await exporter.close()
    assert not files(settings)


async def test_closing_ends_it_at_once(db: Database, leases: OneLease, settings: Settings) -> None:
    exporter = Exporter(db, leases, settings)
    await exporter.start()
    async with asyncio.timeout(1):
        await exporter.close()
        await exporter.close()
