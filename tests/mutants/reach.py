"""Which tests run which lines, so that a bug is tried with those that can notice it and with no others.

Lines are those that a test runs in its own process. What a module runs while it is imported can be noticed by every
test, and everything by those of a file that starts a process with this part of the product in it.
"""

import ast
import json
import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest


class Tracer:
    """A pytest plugin that notes, for each test of one file, the lines of these folders and files that run during it.

    What fixtures do that several tests share, and what goes on between tests, is the file's.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        include = [path if path.endswith(".py") else f"{path}/*" for path in paths]
        self._coverage = coverage.Coverage(data_file=None, config_file=False, include=include, messages=False)
        self._coverage.start()
        self._test = ""
        self._started: set[str] = set()
        sys.addaudithook(self._audit)

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._test = nodeid
        self._coverage.switch_context(nodeid)

    @pytest.hookimpl
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._coverage.switch_context(_whole(nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        self._coverage.switch_context(_whole(self._test))
        try:
            return (yield)
        finally:
            self._coverage.switch_context(self._test)

    def write(self, to: Path) -> None:
        """What was noted, as JSON: `lines` by file (from the working directory), by line, the tests, where "" is the
        import; `started`: what was started in processes, "inference" or "app"."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {
            Path(file).relative_to(Path.cwd()).as_posix(): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
        to.write_text(json.dumps({"lines": lines, "started": sorted(self._started)}))

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and str(args[0]) == sys.executable:
            self._started.add("inference" if "inference" in args[1] else "app")


@dataclass(slots=True)
class Reach:
    """What a run of all tests without a bug has shown. `seconds` by test."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: dict[str, list[str]] = field(default_factory=dict)
    _lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def add(self, file: str, seconds: dict[str, float], noted: dict[str, Any]) -> None:
        """One test file's run: seconds by test, and what `Tracer` wrote."""
        self.seconds |= seconds
        self._started[file] = noted["started"]
        for path, by_line in noted["lines"].items():
            known = self._lines.setdefault(path, {})
            for line, tests in by_line.items():
                known.setdefault(int(line), set()).update(tests)

    def tests(self, path: str, lines: Iterable[int], files: Sequence[str]) -> list[str]:
        """The tests of these files that one of these lines of `path` can reach: files in the order given, each file's
        in their own."""
        by_line = self._lines.get(path, {})
        reached = set().union(*(by_line.get(line, set()) for line in lines))
        part = "inference" if path.startswith("inference/") else "app"
        whole = {file for file in files if "" in reached or _whole(file) in reached or part in self._started[file]}
        by_file: dict[str, list[str]] = {file: [] for file in files}
        for test in self.seconds:
            file = _file(test)
            if file in by_file and (file in whole or test in reached):
                by_file[file].append(test)
        return [test for tests in by_file.values() for test in tests]


def statement(source: str, line: int) -> range:
    """The lines of the statement that this line belongs to; of one with a body, of its head."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            continue
        first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else getattr(node, "end_lineno", first)
        if first <= line <= max(first, last):
            found = range(first, max(first, last) + 1)
    return found


def _file(test: str) -> str:
    return test.partition("::")[0]


def _whole(test: str) -> str:
    """Stands for all tests of this one's file."""
    return f"{_file(test)}::"
