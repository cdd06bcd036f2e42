"""The command line on a home directory of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chat_app import settings
from chat_app.cli.app import app

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, with its standard input, under settings that are read anew."""

    def run(*words: str, stdin: str = "", **env: str) -> Result:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        settings.settings.cache_clear()
        try:
            return CliRunner().invoke(app, list(words), input=stdin)
        finally:
            settings.settings.cache_clear()

    return run
