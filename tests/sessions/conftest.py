"""A started database of each kind, migrated to head, and processes that share it."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chat_app.data.db import open_database
from chat_app.data.db.base import Database
from chat_app.data.leases.base import Leases
from chat_app.data.leases.memory import MemoryLeases
from chat_app.data.leases.valkey import ValkeyLeases
from chat_app.data.migrations import migrate
from chat_app.sessions import ownership
from chat_app.sessions.generations import Generations
from chat_app.settings import Settings
from tests.sessions.processes import Process
from tests.sessions.thread_author import ADA, EVE, Author, add_people


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory whose SQLite file is at head, for tests to copy."""
    home = tmp_path_factory.mktemp("migrated") / "home"
    migrate(Settings(home=home))
    return home


@pytest.fixture(params=["sqlite", "postgresql"])
async def db(request: pytest.FixtureRequest, migrated_home: Path, tmp_path: Path) -> AsyncIterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    home = shutil.copytree(migrated_home, tmp_path / "database")
    database = open_database(Settings(home=home, database_url=SecretStr(url)))
    await database.start()
    yield database
    await database.close()


@pytest.fixture(params=["memory", "valkey"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    leases: Leases = ValkeyLeases(request.getfixturevalue("redis_url")) if request.param == "valkey" else MemoryLeases()
    yield leases
    await leases.close()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What was logged. To print tracebacks takes longer than the pauses that are measured here."""
    with capture_logs() as logged:
        yield logged


@pytest.fixture
def generations(db: Database, monkeypatch: pytest.MonkeyPatch) -> Generations:
    monkeypatch.setattr(ownership, "WATCH_S", 0.05)
    monkeypatch.setattr(ownership, "PAUSE_S", 0.1)
    return Generations(db)


@pytest.fixture
async def process(leases: Leases, generations: Generations) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """A function that starts a process. All share the leases and the database."""
    made: list[Process] = []

    async def start(version: int = 1) -> Process:
        process = Process(leases, generations, version)
        made.append(process)
        await process.start()
        return process

    yield start
    for process in made:
        process.leases.cut = True
        await process.ownership.close()


@pytest.fixture
async def people(db: Database) -> Database:
    """A database in which Ada and Eve have accounts."""
    await add_people(db)
    return db


@pytest.fixture
def ada(people: Database) -> Author:
    return Author(people, ADA)


@pytest.fixture
def eve(people: Database) -> Author:
    return Author(people, EVE)
