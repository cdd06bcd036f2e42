"""The notebook runs from top to bottom, over files that the product's own export wrote, and over none."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.telemetry.turns import plausible, turn, write_exports

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "usage.ipynb"


def executed(monkeypatch: pytest.MonkeyPatch, home: Path) -> nbformat.NotebookNode:
    """The notebook after a run against this home directory. A cell that raises fails the test."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    return notebook


def said(notebook: nbformat.NotebookNode) -> str:
    """All sentences that the cells showed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output["data"].get("text/markdown", "") for output in outputs if "data" in output)


def charts(notebook: nbformat.NotebookNode) -> int:
    """How many cells drew a picture."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    await write_exports(tmp_path / "home", plausible(days=6, a_day=60))
    return tmp_path / "home"


def test_with_data(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    notebook = executed(monkeypatch, home)
    assert charts(notebook) == 7
    words = said(notebook)
    assert "turns of" in words and "The heaviest ten per cent" in words and "turns were refused" in words
    assert "No chats have been exported" not in words


def test_without_any_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notebook = executed(monkeypatch, tmp_path / "nowhere")
    assert "No chats have been exported yet" in said(notebook)
    assert "python -m chat_app export" in said(notebook)
    assert said(notebook).count("Nothing to draw yet") == 7 and charts(notebook) == 0


async def test_nbmake_runs_it_over_one_refused_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("queue_ms", "ttft_ms", "total_ms", "tokens_per_s"))
    none = dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micro"), 0)
    lone = turn(1, status="refused", model="", refused_stage="input", refused_category="secret", **nothing, **none)
    await write_exports(tmp_path / "home", [lone])
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "-p", "no:xdist", str(NOTEBOOK)],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=NOTEBOOK.parents[1],
    )
    assert done.returncode == 0, done.stdout


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_it_asks_five_questions() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    headings = [cell.source.splitlines()[0] for cell in notebook.cells if cell.source.startswith("## ")]
    assert [heading[3] for heading in headings] == list("12345")
    assert all(heading.endswith("?") for heading in headings)
