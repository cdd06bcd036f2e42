"""Keys that a release without scopes made keep what they could do."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, text

from alembic import command
from chat_app.accounts.grant import SCOPES, USUAL
from chat_app.accounts.people import Accounts
from chat_app.accounts.tokens import digest, new_key
from chat_app.data.db import open_database
from chat_app.data.migrations import configured, migrate, run_in_transaction
from chat_app.settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name a database without any table."""
    url = request.getfixturevalue("empty_postgres_url") if request.param == "postgresql" else ""
    return Settings(home=tmp_path / "home", database_url=SecretStr(url))


def test_scopes_are_what_a_key_could_do_so_far(before: Settings) -> None:
    keys = {role: new_key() for role in ("user", "staff", "admin")}

    def release(connection: Connection) -> None:
        command.upgrade(configured(connection), "0002")
        connection.execute(text("INSERT INTO tenant (id, name, created_at) VALUES ('t', 'T', 1)"))
        connection.execute(
            text(
                "INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
                " VALUES ('free', 'Free', 60, 4, 1, 0, 1)"
            )
        )
        for role, key in keys.items():
            user = {"id": role, "email": f"{role}@example.org", "digest": digest(key)}
            connection.execute(
                text(
                    "INSERT INTO users (id, tenant_id, email, name, password_hash, role, plan_id, created_at)"
                    " VALUES (:id, 't', :email, '', '', :id, 'free', 1)"
                ),
                user,
            )
            connection.execute(
                text(
                    "INSERT INTO api_key (id, user_id, name, prefix, digest, created_at)"
                    " VALUES (:id, :id, '', '', :digest, 1)"
                ),
                user,
            )

    async def scopes() -> dict[str, tuple[str, ...]]:
        db = open_database(before)
        await db.start()
        accounts = Accounts(db, before)
        found = {role: await accounts.grant(key) for role, key in keys.items()}
        await db.close()
        return {role: grant.rights.scopes for role, grant in found.items() if grant is not None}

    run_in_transaction(before, release)
    migrate(before)
    assert asyncio.run(scopes()) == {"user": USUAL, "staff": SCOPES, "admin": SCOPES}
