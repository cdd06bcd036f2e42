"""The stores under test: each fixture provides the embedded and the outgrown column of a protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from chat_app.data.migrations import migrate
from chat_app.settings import Settings
from tests.faults.proxy import FaultProxy

NewLog = Callable[..., Awaitable[GenerationLog]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory that exists."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings that name a fresh database, migrated to head."""
    if request.param == "postgresql":
        return Settings(home=home, database_url=SecretStr(request.getfixturevalue("postgres_url")))
    settings = Settings(home=home)
    migrate(settings)
    return settings


@pytest.fixture
async def database(database_settings: Settings) -> AsyncIterator[Database]:
    """A started database with an empty table `jar` (id, n) beside Parley's own."""
    database = open_database(database_settings)
    await database.start()
    await database.batch(Statement("CREATE TABLE jar (id TEXT PRIMARY KEY, n BIGINT NOT NULL, note TEXT)"))
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "valkey"])
async def new_log(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[NewLog]:
    """A function that returns a started log. On Valkey each is a process of its own as far as the log can tell; SQLite
    serves one process, so there it is always the same."""
    made: list[GenerationLog] = []
    kind = request.param
    url = request.getfixturevalue("redis_url") if kind == "valkey" else ""

    async def make() -> GenerationLog:
        if kind == "sqlite" and made:
            return made[0]
        log: GenerationLog = ValkeyLog(url) if url else SqliteLog(home / "log.db")
        await log.start()
        made.append(log)
        return log

    yield make
    for log in made:
        await log.close()


@pytest.fixture
async def log(new_log: NewLog) -> GenerationLog:
    return await new_log()


@dataclass(slots=True)
class Apart:
    """Two processes' logs on one server: the way of one of them, `far`, leads through a proxy."""

    far: ValkeyLog
    way: FaultProxy
    near: ValkeyLog
    server: Any


@pytest.fixture
async def apart(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Apart]:
    monkeypatch.setattr("chat_app.data.log.shard_reader.BLOCK_S", 60.0)  # nothing is found by a later look
    async with FaultProxy(urlsplit(redis_url).port or 6379) as way, redis.asyncio.Redis.from_url(redis_url) as server:
        far = ValkeyLog(f"redis://127.0.0.1:{way.port}{urlsplit(redis_url).path}")
        near = ValkeyLog(redis_url)
        await far.start()
        await near.start()
        yield Apart(far, way, near, server)
        way.mode = "pass"
        await far.close()
        await near.close()
