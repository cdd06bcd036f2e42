"""A file past 400 lines wants to be two; half of them stay within 150."""

import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("chat_app", "inference", "ops_dashboard", "bench")


def lengths() -> dict[str, int]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"]
    return {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}


def test_no_file_is_past_400_lines() -> None:
    assert {name: length for name, length in lengths().items() if length > 400} == {}


def test_half_of_the_files_are_within_150_lines() -> None:
    assert statistics.median(lengths().values()) <= 150


def test_no_pickles_and_no_banned_names() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    banned = ("utils.py", "manager.py", ".pkl", ".pickle", ".joblib", ".pt")
    assert [name for name in tracked if name.endswith(banned)] == []
