"""What `python -m tests.mutants` says: the table, and that it tries nothing while tests fail without any bug."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mutants import __main__ as program
from tests.mutants.__main__ import table
from tests.mutants.earlier import Earlier
from tests.mutants.judge import Judged
from tests.mutants.reach import Reach
from tests.mutants.rooms import Room
from tests.mutants.runner import Result, nearest_first
from tests.mutants.sites import Site

SITE = Site(Path(), "chat_app/ids.py", 1, "Not", 0)


def test_only_what_was_surely_noticed_counts() -> None:
    outcomes = ["killed", "hung", "survived", "broken", "unsure", "killed", "killed", "killed"]
    results = [Result(SITE, "turn", Judged(outcome), 1.0) for outcome in outcomes]  # type: ignore[arg-type]
    head, line = table(results)
    assert head.split() == ["bugs", "share", "killed", "hung", "survived", "broken", "unsure"]
    assert line.split() == ["turn", "8", "0.62", "4", "1", "1", "1", "1"]


def test_tests_named_after_the_file_come_first_then_the_quickest() -> None:
    tests = ["tests/turn/test_clock.py", "tests/turn/test_bounds.py", "tests/faults/test_lost_commits.py"]
    reach = Reach(seconds={f"{test}::test_{n}": 10.0 - n for n, test in enumerate(tests)})
    assert nearest_first(tests, "chat_app/turn/bounds.py", reach) == [tests[1], tests[2], tests[0]]
    assert nearest_first(tests, "chat_app/turn/commit.py", reach) == tests[::-1]


class FailingRunner:
    """Its tests fail without any bug; nothing else may be asked of it."""

    def __init__(self, folder: Path, _: Sequence[str]) -> None:
        self.copy = SimpleNamespace(root=folder)

    def run(self, tests: list[str], limit: float, *, bug: bool, trace: Sequence[str] = ()) -> dict[str, Any]:
        assert not bug
        return {"outcome": "failed", "by": "tests/turn/test_turn.py::test_it", "seconds": 1.0, "tests": {}}

    def noted(self) -> dict[str, Any]:
        return {"lines": {}, "started": []}

    def close(self) -> None: ...


def test_nothing_is_tried_while_tests_fail_without_any_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "Runner", FailingRunner)
    asked = argparse.Namespace(processes=1, only=[], sample=1, seed=9, again=None)
    room = Room("turn", ("chat_app/turn",), ("tests/turn/test_turn.py",))
    assert program.run(asked, [room], tmp_path, Earlier()) == 1
    out, err = capsys.readouterr()
    assert "tests/turn/test_turn.py fails without a bug: tests/turn/test_turn.py::test_it" in out
    assert err == "Nothing was tried: without any bug, tests of 1 file(s) fail.\n"
