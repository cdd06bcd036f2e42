"""The stores under test: each fixture provides the embedded and the outgrown column of a protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog
from chat_app.data.migrations import migrate
from chat_app.settings import Settings

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
