"""The process that runs tests: what it says of suites that pass, fail, hang, crash or do not run at all."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "test_good.py": "def test_one(): pass\n",
    "test_bad.py": "def test_one(): pass\ndef test_two(): assert False\n",
    "test_slow.py": "import time\ndef test_one(): pass\ndef test_two(): time.sleep(60)\n",
    "test_crash.py": "import os\ndef test_one(): os._exit(1)\n",
    "test_import.py": "import nothing_of_that_name\n",
    "test_empty.py": "",
    "part.py": "def one():\n    return 1\n\n\ndef two():\n    return 2\n",
    "test_part.py": (
        "import pytest, subprocess, sys, part\n@pytest.fixture(scope='module')\ndef two(): return part.two()\n"
        "def test_one(): assert part.one() == 1\ndef test_two(two): assert two == 2\n"
        "def test_three(two): subprocess.run([sys.executable, '-c', ''])\n"
    ),
}
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    tree, scratch = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("scratch")
    for name, code in FILES.items():
        (tree / name).write_text(code)
    (tree / "pytest.ini").write_text("[pytest]\nmarkers =\n  e2e:\n  chaos:\n  gpu:\n  model:\n")
    program = f"import sys; sys.path.append({str(ROOT)!r}); from tests.mutants.worker import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(scratch)],
        cwd=tree,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def asked(*tests: str, limit: float = 60.0, trace: Sequence[str] = (), **more: float) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        what = {"tests": tests, "limit": limit, "bug": not trace, "trace": trace, **more}
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()
        ran = dict(json.loads(process.stdout.readline()))
        noted = scratch / "reach.json"
        return ran | {"noted": json.loads(noted.read_text()) if noted.exists() else None}

    yield asked
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("file", "outcome", "by"),
    [
        ("test_good.py", "passed", ""),
        ("test_bad.py", "failed", "test_bad.py::test_two"),
        ("test_crash.py", "broken", ""),
        ("test_import.py", "failed", "test_import.py"),
        ("test_empty.py", "broken", ""),
        ("test_missing.py", "broken", ""),
    ],
)
def test_outcomes(run: Run, file: str, outcome: str, by: str) -> None:
    ran = run(file)
    assert (ran["outcome"], ran["by"]) == (outcome, by)


def test_a_hang_is_named_after_the_test_that_ran(run: Run) -> None:
    ran = run("test_good.py", "test_slow.py", limit=5.0)
    assert (ran["outcome"], ran["by"]) == ("hung", "test_slow.py::test_two")


def test_one_test_may_not_use_up_the_time_of_all(run: Run) -> None:
    ran = run("test_good.py", "test_slow.py", limit=50.0, alone=2.0)
    assert (ran["outcome"], ran["by"]) == ("hung", "test_slow.py::test_two")
    assert ran["seconds"] < 50


def test_a_single_test(run: Run) -> None:
    assert run("test_bad.py::test_one")["outcome"] == "passed"


def test_what_is_traced_says_which_test_runs_which_line(run: Run) -> None:
    ran = run("test_part.py", trace=["part.py"])
    assert (ran["outcome"], list(ran["tests"])) == (
        "passed",
        [f"test_part.py::test_{n}" for n in ("one", "two", "three")],
    )
    lines = ran["noted"]["lines"]["part.py"]
    assert {line: set(tests) for line, tests in lines.items()} == {
        "1": {""},
        "5": {""},
        "2": {"test_part.py::test_one"},
        "6": {"test_part.py::"},  # A fixture that tests share.
    }
    assert ran["noted"]["started"] == ["app"]
    assert run("test_part.py")["noted"] is None
