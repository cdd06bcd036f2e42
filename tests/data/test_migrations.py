"""The schema: made from nothing, the same as the tables say, by several at once, on both databases."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection

from alembic import command
from chat_app.data.db import open_database
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.migrations import ROOT, configured, migrate, run_in_transaction
from chat_app.settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings that name a database without any table."""
    url = request.getfixturevalue("empty_postgres_url") if request.param == "postgresql" else ""
    return Settings(home=home, database_url=SecretStr(url))


async def tables(settings: Settings) -> set[str]:
    database = open_database(settings)
    await database.start()
    find = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if database.dialect == "sqlite"
        else "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    rows = await database.query(find)
    await database.close()
    return {row["name"] for row in rows}


def test_models_and_migrations_agree(empty: Settings) -> None:
    migrate(empty)
    run_in_transaction(empty, lambda connection: command.check(configured(connection)))


def test_again_changes_nothing(empty: Settings) -> None:
    migrate(empty)
    before = asyncio.run(tables(empty))
    migrate(empty)
    assert asyncio.run(tables(empty)) == before
    assert {"thread", "message", "generation", "ledger", "alembic_version"} <= before


def test_a_home_that_it_makes_is_for_its_owner_only(tmp_path: Path) -> None:
    migrate(Settings(home=tmp_path / "a" / "home"))
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700


def test_down_and_up_again(empty: Settings) -> None:
    migrate(empty)
    before = asyncio.run(tables(empty))
    run_in_transaction(empty, lambda connection: command.downgrade(configured(connection), "base"))
    assert asyncio.run(tables(empty)) == {"alembic_version"}
    migrate(empty)
    assert asyncio.run(tables(empty)) == before


def environment(settings: Settings) -> dict[str, str]:
    url = settings.database_url.get_secret_value()
    return {**os.environ, "PARLEY_HOME": str(settings.home), "PARLEY_DATABASE_URL": url}


def test_two_replicas_at_once(empty: Settings) -> None:
    code = "from chat_app.data.migrations import migrate; from chat_app.settings import settings; migrate(settings())"
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment(empty), cwd=ROOT) for _ in range(2)]
    assert [process.wait(150) for process in running] == [0, 0]
    run_in_transaction(empty, lambda connection: command.check(configured(connection)))


def test_plain_alembic(empty: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        env=environment(empty),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_in_transaction(empty, lambda connection: command.check(configured(connection)))


def test_a_failed_migration_leaves_no_trace(empty: Settings) -> None:
    def half(connection: Connection) -> None:
        command.upgrade(configured(connection), "head")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_transaction(empty, half)
    assert asyncio.run(tables(empty)) == set()
    migrate(empty)


async def test_no_connection_outlives_a_migration(empty: Settings) -> None:
    await asyncio.to_thread(migrate, empty)
    if url := empty.database_url.get_secret_value():
        onlooker = await asyncpg.connect(url)
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        async with asyncio.timeout(5):  # the server may notice a moment later
            while await onlooker.fetch(others):
                await asyncio.sleep(0.02)
        await onlooker.close()
    else:  # SQLite takes the journal away with the last connection
        assert [path.name for path in empty.home.iterdir()] == ["parley.db"]


def test_no_server(home: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        migrate(Settings(home=home, database_url=SecretStr("postgresql://parley@127.0.0.1:1/none")))


def test_damaged_file(home: Path) -> None:
    (home / "parley.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        migrate(Settings(home=home))


def test_keys_keep_what_they_used_before_it_was_summed(empty: Settings) -> None:
    def before(connection: Connection) -> None:
        command.upgrade(configured(connection), "0006")
        for id, key, period, held in (("a", "k", "2026-11", 0), ("b", "k", "2026-11", 70), ("c", "k", "2026-10", 0)):
            connection.exec_driver_sql(_GENERATION.format(id=id, key=key, period=period, held=held))
        for id, kind, seq, tokens in (("a", "hold", 1, 999), ("a", "settle", 1, 5), ("b", "settle", 1, 30)):
            connection.exec_driver_sql(_ENTRY.format(id=id, kind=kind, seq=seq, tokens=tokens))
        for kind, tokens in (("settle", 8), ("void", 8)):
            connection.exec_driver_sql(_ENTRY.format(id="c", kind=kind, seq=1, tokens=tokens))

    def sums(connection: Connection) -> set[tuple[object, ...]]:
        return {tuple(row) for row in connection.exec_driver_sql("SELECT * FROM key_month")}

    run_in_transaction(empty, before)
    migrate(empty)
    found: list[set[tuple[object, ...]]] = []
    run_in_transaction(empty, lambda connection: found.append(sums(connection)))
    assert found == [{("k", "2026-11", 35, 70), ("k", "2026-10", 0, 0)}]


_GENERATION = (
    "INSERT INTO generation (id, tenant_id, user_id, plan_id, period, created_at, source, api_key_id, model, job,"
    " job_version, step, held_tokens, held_micro, status, owner, fence, attempts, prompt_tokens, completion_tokens,"
    " cached_tokens, cost_micro, error, receipt, log_length) VALUES"
    " ('{id}', 't', 'ada', 'free', '{period}', 1, 'api', '{key}', '', '', 1, 1, {held}, 0, 'done', '', 1, 1, 0, 0, 0,"
    " 0, '', '', 0)"
)
_ENTRY = (
    "INSERT INTO ledger (id, tenant_id, user_id, generation_id, kind, seq, period, tokens, cost_micro, created_at)"
    " VALUES ('{id}{kind}{seq}', 't', 'ada', '{id}', '{kind}', {seq}, '', {tokens}, 0, 1)"
)
