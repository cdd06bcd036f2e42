"""`doctor`: finds what is wrong, says what to do, and ends with 1 then."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.servers import free_port


def line(output: str, part: str) -> str:
    """The table's row about a part, in one line."""
    [found] = [row for row in output.splitlines() if f" {part} " in row and ("✓" in row or "✗" in row)]
    return " ".join(found.split())


@pytest.fixture
def taken() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.model
def test_a_fresh_machine_is_well(run: Run, home: Path) -> None:
    result = run("doctor", "--port", str(free_port()))
    assert result.exit_code == 0, result.output
    assert "✗" not in result.stdout
    for part in ("home", "database", "Redis", "model", "engine", "port"):
        assert "✓" in line(result.stdout, part)
    assert not home.exists()


def test_an_installation_is_well(run: Run, scripted_engine: str, redis_url: str) -> None:
    run("migrate")
    result = run(
        "doctor",
        "--port",
        str(free_port()),
        PARLEY_INFERENCE_URL=scripted_engine,
        PARLEY_INFERENCE_KEY="engine-key",
        PARLEY_REDIS_URL=redis_url,
    )
    assert result.exit_code == 0, result.output
    assert "schema" in line(result.stdout, "database")
    assert "answers" in line(result.stdout, "Redis")
    assert "scripted" in line(result.stdout, "engine")


def test_a_public_address_without_its_proxy(run: Run, scripted_engine: str) -> None:
    asked = {"PARLEY_INFERENCE_URL": scripted_engine, "PARLEY_INFERENCE_KEY": "engine-key"}
    asked["PARLEY_PUBLIC_URL"] = "https://chat.example.org"
    result = run("doctor", "--port", str(free_port()), **asked)
    assert result.exit_code == 1
    assert "✗" in line(result.stdout, "proxy")
    assert "PARLEY_TRUSTED_PROXIES" in result.stdout
    result = run("doctor", "--port", str(free_port()), **asked, PARLEY_TRUSTED_PROXIES="127.0.0.1")
    assert result.exit_code == 0, result.output


def test_a_port_that_is_taken(run: Run, taken: int) -> None:
    result = run("doctor", "--port", str(taken), PARLEY_INFERENCE_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "✗" in line(result.stdout, "port")
    assert f"PORT={taken + 1}" in result.stdout


def test_servers_that_do_not_answer(run: Run) -> None:
    nobody = free_port()
    result = run(
        "doctor",
        PARLEY_INFERENCE_URL=f"http://127.0.0.1:{nobody}",
        PARLEY_REDIS_URL=f"redis://127.0.0.1:{nobody}",
        PARLEY_DATABASE_URL=f"postgresql://127.0.0.1:{nobody}/x",
    )
    assert result.exit_code == 1
    for part in ("Redis", "engine", "database"):
        assert "✗" in line(result.stdout, part)
    assert "PARLEY_REDIS_URL" in result.stdout


def test_a_database_of_an_older_version(run: Run, home: Path) -> None:
    run("migrate")
    with closing(sqlite3.connect(home / "parley.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'older'")
        database.commit()
    result = run("doctor", PARLEY_INFERENCE_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "python -m chat_app migrate" in line(result.stdout, "database")


def test_a_database_that_is_damaged(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "parley.db").write_bytes(b"this is no database" * 1_000)
    result = run("doctor", PARLEY_INFERENCE_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "✗" in line(result.stdout, "database")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written(run: Run, home: Path) -> None:
    home.mkdir(mode=0o500)
    result = run("doctor", PARLEY_INFERENCE_URL="http://127.0.0.1:9")
    assert "✗" in line(result.stdout, "home")


def test_a_home_that_is_a_file(run: Run, home: Path) -> None:
    home.write_text("")
    result = run("doctor", PARLEY_INFERENCE_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "PARLEY_HOME" in line(result.stdout, "home")


def test_a_model_file_that_is_damaged(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.write_bytes(b"GGUF, and then something else")
    result = run("doctor", "--port", str(free_port()), PARLEY_DEFAULT_MODEL=str(file), COLUMNS="600")
    assert result.exit_code == 1
    assert "is damaged" in line(result.stdout, "model")


def test_a_model_that_is_not_there(run: Run) -> None:
    result = run("doctor", "--port", str(free_port()), PARLEY_DEFAULT_MODEL="gpt-9", COLUMNS="600")
    assert result.exit_code == 1
    assert "gpt-9" in line(result.stdout, "model")


def test_the_apps_own_engine_while_it_runs(run: Run, home: Path, scripted_engine: str) -> None:
    home.mkdir()
    (home / "inference.json").write_text(json.dumps({"url": scripted_engine, "pid": 1}))
    (home / "inference.key").write_text("engine-key")
    result = run("doctor", "--port", str(free_port()), PARLEY_INFERENCE_ENGINE="scripted")
    assert "answers, with scripted" in line(result.stdout, "engine")
    (home / "inference.json").write_text(json.dumps({"url": f"http://127.0.0.1:{free_port()}", "pid": 1}))
    result = run("doctor", "--port", str(free_port()), PARLEY_INFERENCE_ENGINE="scripted")
    assert result.exit_code == 0
    assert "not running now" in line(result.stdout, "engine")


def test_which_engines_of_a_fleet_answer(run: Run, scripted_engine: str) -> None:
    there, away = scripted_engine.removeprefix("http://"), f"127.0.0.1:{free_port()}"
    settings = {"PARLEY_INFERENCE_URL": f"{scripted_engine},http://{away}", "PARLEY_INFERENCE_KEY": "engine-key"}
    result = run("doctor", "--port", str(free_port()), COLUMNS="300", **settings)
    assert result.exit_code == 1
    assert f"✓ │ engine 1 │ {there}: answers, with scripted" in line(result.stdout, "engine 1")
    assert f"✗ │ engine 2 │ {away}: the engine cannot be reached" in line(result.stdout, "engine 2")
    assert "PARLEY_INFERENCE_URL" in line(result.stdout, "engine 2")


def test_an_address_that_is_none(run: Run) -> None:
    result = run("doctor", PARLEY_INFERENCE_URL="gpu-host:8000")
    assert result.exit_code == 1
    assert "PARLEY_INFERENCE_URL: 'gpu-host:8000' is no address" in result.output
