"""A database of each kind, and events to put into it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database
from chat_app.data.migrations import migrate
from chat_app.settings import Settings
from chat_app.telemetry.events import Events


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return Settings(home=tmp_path / "home", database_url=SecretStr(url))


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, settings)
    database = open_database(settings)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def events(db: Database, settings: Settings) -> Events:
    return Events(db, settings)
