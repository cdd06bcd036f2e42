"""When a bug counts as noticed: by a named test that fails with it and passes without it, or a hang that repeats."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.mutants.judge import judge

SUITE = ["tests/a.py", "tests/b.py"]
PASSED, BROKEN = {"outcome": "passed", "by": ""}, {"outcome": "broken", "by": ""}
FAILED, OTHER = {"outcome": "failed", "by": "tests/a.py::one"}, {"outcome": "failed", "by": "tests/b.py::two"}
HUNG, NOWHERE = {"outcome": "hung", "by": "tests/a.py::one"}, {"outcome": "hung", "by": ""}
WITH, CLEAN = "with the bug", "without it"


class Runs:
    """What comes of one run after the other, each as it has to be asked for."""

    def __init__(self, *due: tuple[str, Sequence[str], dict[str, str]]) -> None:
        self._due = list(due)

    def __call__(self, tests: list[str], limit: float, *, bug: bool) -> dict[str, Any]:
        which, asked, outcome = self._due.pop(0)
        assert (WITH if bug else CLEAN, list(asked)) == (which, tests)
        assert limit <= 200
        return outcome

    def over(self) -> bool:
        return not self._due


ONE, TWO = ["tests/a.py::one"], ["tests/b.py::two"]
CASES = {
    "no test fails": ("survived", "", [(WITH, SUITE, PASSED)]),
    "no test ran": ("broken", "", [(WITH, SUITE, BROKEN)]),
    "a test fails that passes without it": ("killed", ONE[0], [(WITH, SUITE, FAILED), (CLEAN, ONE, PASSED)]),
    "it fails without it too, and at the second try nothing": (
        "survived",
        "",
        [(WITH, SUITE, FAILED), (CLEAN, ONE, FAILED), (WITH, SUITE, PASSED)],
    ),
    "it fails without it too, and at the second try another": (
        "killed",
        TWO[0],
        [(WITH, SUITE, FAILED), (CLEAN, ONE, FAILED), (WITH, SUITE, OTHER), (CLEAN, TWO, PASSED)],
    ),
    "without it they always fail": (
        "unsure",
        TWO[0],
        [(WITH, SUITE, FAILED), (CLEAN, ONE, FAILED), (WITH, SUITE, OTHER), (CLEAN, TWO, FAILED)],
    ),
    "without it the test does not run": (
        "unsure",
        ONE[0],
        [(WITH, SUITE, FAILED), (CLEAN, ONE, BROKEN), (WITH, SUITE, FAILED), (CLEAN, ONE, BROKEN)],
    ),
    "a hang that repeats": ("hung", ONE[0], [(WITH, SUITE, HUNG), (WITH, ONE, HUNG), (CLEAN, ONE, PASSED)]),
    "a hang that is a failure the next time": (
        "killed",
        ONE[0],
        [(WITH, SUITE, HUNG), (WITH, ONE, FAILED), (CLEAN, ONE, PASSED)],
    ),
    "a hang that does not repeat": ("unsure", ONE[0], [(WITH, SUITE, HUNG), (WITH, ONE, PASSED)]),
    "a hang without the bug too": ("unsure", ONE[0], [(WITH, SUITE, HUNG), (WITH, ONE, HUNG), (CLEAN, ONE, HUNG)]),
    "a hang in no test": ("unsure", "", [(WITH, SUITE, NOWHERE)]),
}


@pytest.mark.parametrize("what", CASES)
def test_judge(what: str) -> None:
    outcome, by, due = CASES[what]
    runs = Runs(*due)
    found = judge(runs, SUITE, 200.0)
    assert (found.outcome, found.by, found.killed) == (outcome, by, outcome in ("killed", "hung"))
    assert runs.over()
