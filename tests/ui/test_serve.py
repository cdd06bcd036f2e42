"""What stops a start, said in a person's words before anything is built or opened."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat_app.accounts.second_factor import KEY_FILE as SECOND_FACTOR_KEY
from chat_app.cli.checks import model as model_check
from chat_app.data.home import hold_home
from chat_app.serve import (
    CannotStart,
    address,
    check_home_is_free,
    check_key,
    check_port,
    check_workers,
    find_model,
    make_home,
    serve,
)
from chat_app.settings import Settings, settings
from chat_app.telemetry.pseudonyms import KEY_FILE
from inference import catalog
from inference.__main__ import BUNDLED
from tests.app import ROOT


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} .* PORT={port + 1}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(CannotStart, match="no port 99999"):
        check_port("127.0.0.1", 99_999)


def test_the_command_says_so_and_ends(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "chat_app.serve"],
            cwd=ROOT,
            env={**os.environ, "PORT": port, "PARLEY_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_more_workers_need_redis() -> None:
    with pytest.raises(CannotStart, match="PARLEY_REDIS_URL"):
        check_workers(2, Settings(redis_url=""))  # type: ignore[arg-type]
    check_workers(1, Settings(redis_url=""))  # type: ignore[arg-type]
    check_workers(4, Settings(redis_url="redis://localhost"))  # type: ignore[arg-type]


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="PARLEY_HOME"):
        make_home(tmp_path / "file" / "home")
    make_home(tmp_path / "new" / "home")
    assert list((tmp_path / "new" / "home").iterdir()) == []


def test_a_home_that_no_shell_has_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PARLEY_HOME", "~/parley")
    assert Settings().sqlite_path == tmp_path / "parley" / "parley.db"


@pytest.mark.parametrize("file", [KEY_FILE, SECOND_FACTOR_KEY])
def test_a_key_that_is_damaged(tmp_path: Path, file: str) -> None:
    check_key(tmp_path)
    check_key(tmp_path)
    (tmp_path / file).write_bytes(b"half")
    with pytest.raises(CannotStart, match="should hold 32 bytes but holds 4"):
        check_key(tmp_path)


def test_a_home_that_another_parley_holds(tmp_path: Path) -> None:
    mine = Settings(home=tmp_path, redis_url="")  # type: ignore[arg-type]
    check_home_is_free(mine)
    with hold_home(tmp_path):
        with pytest.raises(CannotStart, match="Another Parley"):
            check_home_is_free(mine)
        check_home_is_free(Settings(home=tmp_path, redis_url="redis://localhost"))  # type: ignore[arg-type]


def test_a_model_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="there is no model 'nobody'"):
        find_model(Settings(home=tmp_path, default_model="nobody"))
    damaged = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    damaged.write_bytes(b"GGUF, and then nothing that was expected")
    with pytest.raises(CannotStart, match="damaged"):
        find_model(Settings(home=tmp_path, default_model=str(damaged)))
    assert find_model(Settings(inference_engine="scripted")) == "the scripted engine"


def test_the_address_that_is_printed() -> None:
    plain = Settings(public_url="")
    assert address(plain, "0.0.0.0", 3001) == "http://localhost:3001"
    assert address(plain, "192.168.1.5", 80) == "http://192.168.1.5:80"
    assert address(Settings(public_url="https://chat.example.org"), "0.0.0.0", 3000) == "https://chat.example.org"


def test_a_setting_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_INFERENCE_URL", "gpu-host:8000")
    settings.cache_clear()
    try:
        with pytest.raises(SystemExit, match="PARLEY_INFERENCE_URL: 'gpu-host:8000' is no address"):
            serve()
    finally:
        settings.cache_clear()


def test_a_model_of_ones_own_may_be_the_default(tmp_path: Path) -> None:
    bundled, path = catalog.find(BUNDLED, tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.gguf").symlink_to(path)
    (tmp_path / "models.toml").write_text('[[model]]\nid = "mine"\nfile = "models/mine.gguf"\n')
    chosen = Settings(home=tmp_path, default_model="mine")
    assert "mine" in find_model(chosen)
    assert model_check(chosen).well
    assert bundled.id in find_model(Settings(home=tmp_path, default_model=BUNDLED))
    (tmp_path / "models.toml").write_text("[[model]]")
    with pytest.raises(CannotStart, match="the catalogue"):
        find_model(chosen)
