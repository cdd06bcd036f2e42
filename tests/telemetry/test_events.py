"""The events: their schema is documented, they are recorded once, and they name nobody."""

import re
from pathlib import Path

import orjson
import pytest

from chat_app.data.db.base import Database
from chat_app.data.key_file import BadKey
from chat_app.settings import Settings
from chat_app.telemetry.events import SCHEMA_VERSION, Events, columns, day_of
from chat_app.telemetry.pseudonyms import KEY_FILE, Pseudonyms
from tests.telemetry.turns import NOON, turn

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"


def test_every_column_is_documented_with_its_type_in_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert [(name, kind) for name, kind, _ in rows] == list(columns().items())
    assert all(len(meaning) > 10 for _, _, meaning in rows)
    assert f"now {SCHEMA_VERSION};" in DOCUMENT.read_text()


def test_no_column_could_hold_content() -> None:
    assert not {"user_id", "email", "text", "content", "prompt", "title", "error", "ip"} & set(columns())


def test_days_are_utc() -> None:
    assert day_of(0) == "1970-01-01"
    assert day_of(24 * 3_600_000 - 1) == "1970-01-01"
    assert day_of(24 * 3_600_000) == "1970-01-02"


async def test_an_event_is_recorded_once_and_without_the_person(db: Database, events: Events) -> None:
    statement = events.turn(turn(1, user_id="somebody"))
    await db.batch(statement, statement)
    await db.batch(events.turn(turn(1, user_id="somebody", status="failed")))
    [row] = await db.query("SELECT id, kind, at, payload, exported_at FROM event")
    payload = orjson.loads(row["payload"])
    assert (row["id"], row["kind"], row["at"], row["exported_at"]) == (f"{1:032x}", "turn", NOON, None)
    assert "somebody" not in row["payload"] and re.fullmatch("[0-9a-f]{32}", payload["user_hash"])
    assert payload["status"] == "done" and payload["schema_version"] == SCHEMA_VERSION
    assert set(payload) | {"event_id", "day"} == set(columns())
    assert await events.waiting() == 1


async def test_a_batch_that_fails_leaves_no_event(db: Database, events: Events) -> None:
    with pytest.raises(Exception, match="no_such_table"):
        await db.batch(events.turn(turn(1)), type(events.turn(turn(2)))("INSERT INTO no_such_table VALUES (1)"))
    assert await events.waiting() == 0


def test_a_person_keeps_the_same_name_while_the_key_is_kept(tmp_path: Path) -> None:
    first, again = Pseudonyms.of_home(tmp_path), Pseudonyms.of_home(tmp_path)
    assert first.of("u1") == again.of("u1") != first.of("u2")
    (tmp_path / KEY_FILE).unlink()
    assert Pseudonyms.of_home(tmp_path).of("u1") != first.of("u1")


def test_the_key_is_for_its_owner_only_and_leaves_no_draft(tmp_path: Path) -> None:
    Pseudonyms.of_home(tmp_path / "new")
    assert [file.name for file in (tmp_path / "new").iterdir()] == [KEY_FILE]
    assert (tmp_path / "new" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_an_error_not_a_new_identity(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(BadKey, match="should hold 32 bytes"):
        Pseudonyms.of_home(tmp_path)


def test_settings_without_a_home_make_one(tmp_path: Path) -> None:
    statement = Events(None, Settings(home=tmp_path / "a" / "b")).turn(turn(1))  # type: ignore[arg-type]
    assert statement.params[0] == f"{1:032x}" and (tmp_path / "a" / "b" / KEY_FILE).exists()
