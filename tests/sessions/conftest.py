"""A started database of each kind, migrated to head."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.db.base import Database
from chat_app.data.migrations import migrate
from chat_app.settings import Settings


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
