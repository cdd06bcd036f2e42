"""The audit trail from the command line: its own commands, and what every other command leaves in it."""

import asyncio
import json
from pathlib import Path

import pytest

from chat_app.audit import trail
from chat_app.audit.trail import Trail
from chat_app.cli.audit import WAITING_MS
from chat_app.data.acts import Act, By
from chat_app.data.db import open_database
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms
from chat_app.settings import Settings
from tests.cli.conftest import Run

ADA = ("--email", "ada@example.org")
PASSWORD = "correct horse battery\n"


@pytest.fixture(params=["sqlite", "postgresql"], autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "postgresql":
        monkeypatch.setenv("PARLEY_DATABASE_URL", request.getfixturevalue("postgres_url"))


def said(run: Run, *words: str, stdin: str = "") -> str:
    done = run(*words, stdin=stdin)
    assert done.exit_code == 0, done.output
    return done.stdout


def entries(run: Run, *filters: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in said(run, "audit", "export", *filters).splitlines()]


def tampered(sql: str) -> None:
    """Run a statement as the owner of the database, whose triggers are away by then."""

    async def do() -> None:
        db = open_database(Settings())
        await db.start()
        on = "" if db.dialect == "sqlite" else " ON audit"
        kept = "audit_kept" if db.dialect == "sqlite" else "audit_kept_row"
        await db.batch(Statement(f"DROP TRIGGER {kept}{on}"))
        await db.batch(Statement(sql))
        await db.close()

    asyncio.run(do())


def test_every_command_is_recorded_once(run: Run) -> None:
    said(run, "setup-code")
    said(run, "users", "create", *ADA, "--password-stdin", stdin=PASSWORD)
    said(run, "users", "create", "--email", "bob@example.org", "--role", "staff", "--password-stdin", stdin=PASSWORD)
    bob = ("--email", "bob@example.org")
    key = said(run, "keys", "create", *bob, "--name", "Bob's own laptop").strip()
    key = said(run, "keys", "rotate", *bob, key).strip()
    said(run, "keys", "revoke", *bob, key)
    said(run, "users", "role", *bob, "admin")
    said(run, "users", "role", *bob, "admin")  # As they are: nothing changes.
    said(run, "users", "plan", *bob, "pro")
    said(run, "users", "password", *bob, "--password-stdin", "--end-keys", stdin="another long password\n")
    said(run, "users", "disable", *bob)
    said(run, "users", "enable", *bob)
    for words in (("users", "list"), ("keys", "list", *bob), ("export",), ("migrate",), ("audit", "list")):
        said(run, *words)
    assert run("users", "role", "--email", "eve@example.org", "admin").exit_code == 1  # Nobody, so nothing was done.
    found = entries(run)
    assert [(entry["action"], entry["object_id"] if entry["action"] == "command" else "") for entry in found] == [
        ("setup_code", ""), ("account_create", ""), ("account_create", ""), ("key_create", ""), ("key_rotate", ""),
        ("key_revoke", ""), ("role_change", ""), ("plan_assign", ""), ("password_change", ""), ("account_disable", ""),
        ("account_enable", ""), ("command", "users.list"), ("command", "keys.list"), ("command", "export"),
        ("command", "migrate"), ("command", "audit.list"), ("command", "audit.export"),
    ]  # fmt: skip
    assert {(entry["actor"], entry["outcome"]) for entry in found} == {("operator", "done")}
    details = {str(entry["action"]): entry["details"] for entry in found}
    assert found[1]["details"] == {"role": "admin", "first": True}
    assert found[2]["details"] == {"role": "staff"}
    assert details["role_change"] == {"from": "staff", "to": "admin"}
    assert details["plan_assign"] == {"plan": "pro"}
    assert not any(word in json.dumps(found) for word in ("example.org", "laptop", "sk-parley", "password\\n"))


def test_verify_finds_what_was_changed_and_a_cut_with_a_noted_head(run: Run) -> None:
    for number in range(3):
        said(run, "users", "create", "--email", f"u{number}@example.org", "--password-stdin", stdin=PASSWORD)
    whole = said(run, "audit", "verify")
    assert whole.startswith("✓ 3 entries") and "keep this one" in whole
    head = whole.splitlines()[1].removeprefix("Head: ")
    said(run, "users", "list")
    assert "nothing was cut off" in said(run, "audit", "verify", "--head", head)
    wrong = run("audit", "verify", "--head", f"{head[:-1]}{'0' if head[-1] != '0' else '1'}")
    assert (wrong.exit_code, "at entry 3" in wrong.stderr) == (1, True)
    assert run("audit", "verify", "--head", "nonsense").exit_code == 1
    tampered("UPDATE audit SET actor = 'eve' WHERE seq = 2")
    found = run("audit", "verify")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "broken at entry 2: changed after it was written" in found.stderr


def test_verify_says_what_is_not_sealed_and_for_how_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said(run, "users", "create", *ADA, "--password-stdin", stdin=PASSWORD)

    async def act() -> None:
        db = open_database(Settings())
        await db.start()
        await Trail(db).record(Act("sign_in", By("ada")))
        await db.close()

    monkeypatch.setattr(trail, "now_ms", lambda: now_ms() - 3 * WAITING_MS)
    asyncio.run(act())
    found = said(run, "audit", "verify")
    assert "✓ 1 entry," in found and "1 more not sealed yet. The oldest has waited for 18" in found
    assert "not sealed" not in said(run, "audit", "verify")  # Every command seals what it finds.


def test_list_and_export_what_is_asked_for(run: Run, tmp_path: Path) -> None:
    said(run, "users", "create", *ADA, "--password-stdin", stdin=PASSWORD)
    said(run, "users", "list")
    [last, first] = [json.loads(line) for line in said(run, "audit", "list").splitlines()[1:]]
    assert (last["action"], first["action"]) == ("command", "account_create")
    assert [entry["object_id"] for entry in entries(run, "--object", "ada@example.org")] == [first["object_id"]]
    assert entries(run, "--until", "2020-01-01") == []
    assert entries(run, "--actor", "operator", "--action", "account_create", "--since", "2020-01-01") == [first]
    said(run, "audit", "export", str(tmp_path / "trail.jsonl"), "--outcome", "done")
    lines = (tmp_path / "trail.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == first
    for wrong in (("--action", "dance"), ("--outcome", "great"), ("--actor", "eve@example.org")):
        assert run("audit", "list", *wrong).exit_code == 1
