"""A started database of each kind, migrated to head."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database
from chat_app.data.migrations import migrate
from chat_app.settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(url))
    if not url:
        await asyncio.to_thread(migrate, settings)
    database = open_database(settings)
    await database.start()
    yield database
    await database.close()
