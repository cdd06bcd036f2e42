"""Accounts and keys from the command line, on both databases, also while the server runs."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pyotp
import pytest

from chat_app.settings import Settings
from chat_app.telemetry import parquet
from chat_app.wiring import lifespan
from tests.cli.conftest import Run

ADA = ("--email", "ada@example.org")
PASSWORD = "correct horse battery\n"


@pytest.fixture(params=["sqlite", "postgresql"], autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "postgresql":
        monkeypatch.setenv("PARLEY_DATABASE_URL", request.getfixturevalue("postgres_url"))


def test_an_account_and_a_key_from_nothing(run: Run) -> None:
    made = run("users", "create", *ADA, "--role", "user", "--password-stdin", stdin=PASSWORD)
    assert (made.exit_code, made.stdout) == (0, "Made ada@example.org (admin, plan enterprise).\n")
    key = run("keys", "create", *ADA, "--name", "laptop")
    assert key.exit_code == 0
    assert key.stdout.startswith("sk-parley-")
    assert len(key.stdout.split()) == 1
    listed = run("keys", "list", *ADA).stdout
    assert "laptop" in listed
    assert key.stdout.strip() not in listed
    assert run("keys", "revoke", *ADA, key.stdout.strip()).exit_code == 0
    assert "laptop" not in run("keys", "list", *ADA).stdout
    again = run("keys", "revoke", *ADA, key.stdout.strip())
    assert again.exit_code == 1
    assert "0 keys" in again.stderr


def test_a_key_with_bounds_and_a_new_secret_for_it(run: Run) -> None:
    run("users", "create", *ADA, "--password-stdin", stdin=PASSWORD)
    bounds = ("--scope", "chat", "--scope", "admin", "--model", "a", "--monthly-tokens", "5", "--per-minute", "6")
    key = run("keys", "create", *ADA, *bounds, "--expires", "2199-01-31").stdout.strip()
    listed = run("keys", "list", *ADA).stdout
    assert "chat admin · only a · 5 tokens a month · 6 calls a minute · expires 2199-01-31 · last used never" in listed
    [line] = [line for line in run("keys", "list", *ADA, COLUMNS="40").stdout.splitlines() if "sk-parley-" in line]
    id, beginning, _ = line.split(maxsplit=2)
    assert len(id) == 32 and beginning == f"{key[:14]}…"
    former = run("keys", "rotate", *ADA, id).stdout.strip()
    refused = run("keys", "rotate", *ADA, former)
    assert (refused.exit_code, refused.stdout) == (1, "") and "still serves" in refused.stderr
    rotated = run("keys", "rotate", *ADA, former, "--overlap", "0", "--end-former").stdout.strip()
    assert rotated.startswith("sk-parley-") and rotated != key
    assert rotated[:14] in run("keys", "list", *ADA).stdout
    for wrong in (("--expires", "soon"), ("--expires", "2020-01-01"), ("--scope", "all"), ("--per-minute", "0")):
        assert run("keys", "create", *ADA, *wrong).exit_code != 0
    run("users", "password", *ADA, "--password-stdin", "--end-keys", stdin="another password\n")
    assert "sk-parley-" not in run("keys", "list", *ADA).stdout


def test_the_set_up_code_until_there_is_an_account(run: Run) -> None:
    printed = run("setup-code")
    assert (printed.exit_code, printed.stdout.count("-")) == (0, 4)
    assert run("setup-code").stdout == printed.stdout
    run("users", "create", *ADA, "--password-stdin", stdin=PASSWORD)
    late = run("setup-code")
    assert (late.exit_code, late.stdout) == (1, "")
    assert "users create" in late.stderr


def test_administering_people(run: Run) -> None:
    run("users", "create", "--email", "root@example.org", "--password-stdin", stdin=PASSWORD)
    run("users", "create", *ADA, "--name", "Ada Lovelace", "--password-stdin", stdin=PASSWORD)
    assert run("users", "role", *ADA, "staff").exit_code == 0
    assert run("users", "plan", *ADA, "pro").exit_code == 0
    assert run("users", "disable", *ADA).exit_code == 0
    [line] = [line for line in run("users", "list").stdout.splitlines() if "ada@example.org" in line]
    assert all(word in line for word in ("Ada Lovelace", "staff", "pro", "disabled"))
    assert "root@" not in run("users", "list", "lovelace").stdout
    assert run("users", "enable", *ADA).exit_code == 0
    assert "disabled" not in run("users", "list").stdout
    assert run("users", "password", *ADA, "--password-stdin", stdin="another password\n").exit_code == 0


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("users", "create", "--email", "nonsense", "--password-stdin"), PASSWORD, "not an e-mail address"),
        (("users", "create", *ADA, "--password-stdin"), "short\n", "at least 12"),
        (("users", "create", *ADA, "--password-stdin"), "password1234\n", "easy to guess. This is"),
        (("users", "create", *ADA, "--password-stdin"), "", "at least 12"),
        (("users", "create", *ADA), "", "--password-stdin"),
        (("users", "create", *ADA, "--role", "root", "--password-stdin"), PASSWORD, "root"),
        (("users", "role", *ADA, "admin"), "", "There is no account ada@example.org"),
        (("users", "plan", "--email", "root@example.org", "gold"), "", "There is no such plan"),
        (("users", "disable", "--email", "root@example.org"), "", "only administrator"),
        (("keys", "create", *ADA), "", "There is no account ada@example.org"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(run: Run, words: tuple[str, ...], stdin: str, said: str) -> None:
    run("users", "create", "--email", "root@example.org", "--password-stdin", stdin=PASSWORD)
    result = run(*words, stdin=stdin)
    assert result.exit_code != 0
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_the_database_is_migrated_on_request_and_twice(run: Run) -> None:
    for _ in range(2):
        result = run("migrate")
        assert result.exit_code == 0
        assert "present schema" in result.stdout


def test_an_export_of_nothing_says_so(run: Run) -> None:
    result = run("export")
    assert result.exit_code == 0
    assert "Nothing new to export" in result.stdout


def test_an_export_that_has_to_wait_too_long_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "PATIENCE_S", 0.1)
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = run("export", "--directory", str(tmp_path))
    assert result.exit_code == 1
    assert "Another export" in result.stderr


def test_a_name_is_shown_as_it_is(run: Run) -> None:
    run("users", "create", *ADA, "--name", "[/red] [bold]Ada", "--password-stdin", stdin=PASSWORD)
    run("keys", "create", *ADA, "--name", "[/mine]")
    assert "[/red] [bold]Ada" in run("users", "list").stdout
    assert "[/mine]" in run("keys", "list", *ADA).stdout


def test_help_names_every_command(run: Run) -> None:
    words = run("--help").stdout
    assert all(command in words for command in ("users", "keys", "setup-code", "migrate", "doctor", "export", "serve"))


def test_a_setting_that_makes_no_sense_is_named(run: Run) -> None:
    result = run("users", "list", PARLEY_SESSION_DAYS="many")
    assert result.exit_code == 1
    assert "PARLEY_SESSION_DAYS" in result.stderr


def test_it_works_while_the_server_runs(run: Run, scripted_engine: str, tmp_path: Path) -> None:
    """As a program of its own, beside a Parley that holds the home directory."""

    async def beside() -> None:
        database = os.environ.get("PARLEY_DATABASE_URL", "")
        chosen = Settings(
            home=tmp_path / "home", database_url=database, inference_url=scripted_engine, export_minutes=0
        )
        async with lifespan(chosen) as parley:
            await asyncio.to_thread(program, "users", "create", *ADA, "--password-stdin")
            key = await asyncio.to_thread(program, "keys", "create", *ADA)
            who = await parley.accounts.by_key(key.strip())
            assert who is not None
            assert who.is_admin
            assert await parley.accounts.sign_in("ada@example.org", PASSWORD.strip())

    def program(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "chat_app", *words], input=PASSWORD, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    asyncio.run(beside())


def test_a_lost_phone(run: Run, home: Path) -> None:
    run("users", "create", *ADA, "--password-stdin", stdin=PASSWORD)
    none = run("users", "remove-second-factor", *ADA)
    assert (none.exit_code, none.stderr) == (1, "✗ There is no second factor.\n")

    async def set_up() -> bool:
        async with lifespan(Settings(home=home, inference_url="http://127.0.0.1:9", export_minutes=0)) as parley:
            who = await parley.accounts.by_email("ada@example.org")
            assert who is not None
            setup = await parley.accounts.set_up_second_factor(who, PASSWORD.strip())
            await parley.accounts.confirm_second_factor(who.user_id, pyotp.TOTP(setup.secret).now())
            return (await parley.accounts.by_email("ada@example.org") or who).has_second_factor

    assert asyncio.run(set_up())
    removed = run("users", "remove-second-factor", *ADA)
    assert (removed.exit_code, removed.stdout) == (0, "ada@example.org signs in with the password alone now.\n")
    assert run("users", "remove-second-factor", *ADA).exit_code == 1
