"""A database of each kind, with the plans that an installation starts with, and the accounts over it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_app.accounts.people import Accounts
from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms
from chat_app.data.migrations import migrate
from chat_app.settings import Settings

PLANS = ("free", "pro")


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name a fresh database; a test may change the others."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return Settings(home=tmp_path / "home", database_url=SecretStr(url))


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, settings)
    database = open_database(settings)
    await database.start()
    insert = (
        "INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
        " VALUES ($1, 'A plan', 60, 4, 1, 0, $2) ON CONFLICT (id) DO NOTHING"
    )
    await database.batch(*(Statement(insert, (plan, now_ms())) for plan in PLANS))
    yield database
    await database.close()


@pytest.fixture
def accounts(db: Database, settings: Settings) -> Accounts:
    return Accounts(db, settings)
