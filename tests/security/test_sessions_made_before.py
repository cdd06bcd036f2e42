"""Browser sessions of a release that noted no use: nobody is signed out, and they prove nothing."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, text

from alembic import command
from chat_app.accounts.people import Accounts
from chat_app.accounts.tokens import digest, new_token
from chat_app.data.db import open_database
from chat_app.data.ids import now_ms
from chat_app.data.migrations import configured, migrate, run_in_transaction
from chat_app.settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name a database without any table."""
    url = request.getfixturevalue("empty_postgres_url") if request.param == "postgresql" else ""
    return Settings(home=tmp_path / "home", database_url=SecretStr(url))


def test_a_session_from_before_goes_on_and_asks_for_the_password(before: Settings) -> None:
    token = new_token()

    def release(connection: Connection) -> None:
        command.upgrade(configured(connection), "0006")
        for statement in (
            "INSERT INTO tenant (id, name, created_at) VALUES ('t', 'T', 1)",
            "INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
            " VALUES ('free', 'Free', 60, 4, 1, 0, 1)",
            "INSERT INTO users (id, tenant_id, email, name, password_hash, role, plan_id, created_at)"
            " VALUES ('u', 't', 'ada@example.org', '', '', 'user', 'free', 1)",
            "INSERT INTO browser_session (id, user_id, created_at, expires_at)"
            f" VALUES ('{digest(token)}', 'u', 1, {now_ms() + 86_400_000})",
        ):
            connection.execute(text(statement))

    async def after() -> tuple[bool, bool, bool, list[str]]:
        db = open_database(before)
        await db.start()
        accounts = Accounts(db, before)
        found = (
            await accounts.by_cookie(token) is not None,
            await accounts.is_proven(token),
            await accounts.has_short_password(token),
            [line.browser for line in await accounts.browsers("u")],
        )
        await db.close()
        return found

    run_in_transaction(before, release)
    migrate(before)
    assert asyncio.run(after()) == (True, False, False, [""])
