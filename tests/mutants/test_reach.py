"""Which tests are tried with a bug: those that run its statement, and those of which nobody can say it."""

import pytest

from tests.mutants.reach import Reach, statement

SOURCE = """\
def f(a):
    if (
        a
    ):
        return g(
            a, 1)
    try:
        pass
    except ValueError:
        return 2
"""


@pytest.mark.parametrize(
    ("line", "lines"),
    [(1, range(1, 2)), (2, range(2, 5)), (3, range(2, 5)), (6, range(5, 7)), (8, range(8, 9)), (9, range(9, 10))],
)
def test_a_line_belongs_to_its_statement_without_the_body(line: int, lines: range) -> None:
    assert statement(SOURCE, line) == lines


def reach(started: list[str]) -> Reach:
    found = Reach()
    found.add(
        "a.py", {"a.py::one": 1.0, "a.py::two": 1.0}, {"started": [], "lines": {"x.py": {"5": ["a.py::two", ""]}}}
    )
    lines = {"x.py": {"7": ["b.py::three"], "8": ["b.py::"]}}
    found.add("b.py", {"b.py::three": 1.0, "b.py::four": 1.0}, {"started": started, "lines": lines})
    return found


@pytest.mark.parametrize(
    ("lines", "started", "tests"),
    [
        (range(5, 6), [], ["b.py::three", "b.py::four", "a.py::one", "a.py::two"]),  # While it is imported.
        (range(7, 8), [], ["b.py::three"]),
        (range(8, 9), [], ["b.py::three", "b.py::four"]),  # A fixture of the whole file.
        (range(6, 9), [], ["b.py::three", "b.py::four"]),
        (range(9, 10), [], []),
        (range(9, 10), ["app"], ["b.py::three", "b.py::four"]),
        (range(9, 10), ["inference"], []),
    ],
)
def test_tests_that_can_notice_it(lines: range, started: list[str], tests: list[str]) -> None:
    assert reach(started).tests("x.py", lines, ["b.py", "a.py"]) == tests


def test_a_process_with_engines_in_it_can_notice_bugs_in_engines() -> None:
    assert reach(["inference"]).tests("inference/x.py", [1], ["b.py", "a.py"]) == ["b.py::three", "b.py::four"]
