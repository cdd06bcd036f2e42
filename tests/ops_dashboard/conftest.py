"""The dashboard under Streamlit's own test runner, before the product's real gateway on a real port."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from chat_app.settings import settings
from chat_app.telemetry.events import TurnEvent
from tests.ops_dashboard.office import Office
from tests.telemetry.turns import write_exports

APP = Path(__file__).parents[2] / "ops_dashboard" / "app.py"

OpenDashboard = Callable[[], AppTest]
Exported = Callable[[Sequence[TurnEvent]], Path]


@pytest.fixture(scope="module")
def _export_once(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Exports turns, each list once; a test that wants files of its own copies them."""
    known: dict[int, Path] = {}

    def export(turns: Sequence[TurnEvent]) -> Path:
        key = hash(tuple(turns))
        if key not in known:
            known[key] = asyncio.run(write_exports(tmp_path_factory.mktemp("exported"), turns))
        return known[key]

    return export


@pytest.fixture
def exported(_export_once: Exported, tmp_path: Path) -> Exported:
    """Puts the exported files of these turns where the dashboard under test looks; returns the directory."""

    def put(turns: Sequence[TurnEvent]) -> Path:
        directory = tmp_path / "ops" / "exports"
        shutil.copytree(_export_once(turns), directory)
        return directory

    return put


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A running Parley with an administrator, one of its staff, and a user."""
    office = Office(tmp_path_factory.mktemp("office"))
    office.open()
    for name, role in (("root", "admin"), ("staff", "staff"), ("ada", "user")):
        office.hire(f"{name}@example.org", role)
    yield office
    office.close()


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, office: Office) -> Iterator[OpenDashboard]:
    """Opens the dashboard over the exports in `tmp_path/ops`, in front of that office."""
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path / "ops"))
    monkeypatch.setenv("PARLEY_PUBLIC_URL", office.url)
    settings.cache_clear()
    st.cache_data.clear()
    st.cache_resource.clear()
    yield lambda: AppTest.from_file(str(APP), default_timeout=30)
    settings.cache_clear()
