"""A process that runs tests in one copy of the tree, each time in a fork of itself: `python -m tests.mutants.worker`.

Starting pytest and what Parley is built on costs seconds; a fork of a process that has them loaded costs none. Nothing
of Parley itself is loaded before the fork, so each run reads the files as they are. It speaks JSON lines: `{"tests",
"limit", "bug", "trace", "alone"}` in, `{"outcome", "by", "seconds", "tests"}` out, the last one seconds by test.
Outcomes are `passed`, `failed` (`by` the first test, or the file that cannot be imported), `hung` (`by` the test that
ran) and `broken`: no test ran, or the process crashed. `trace` are paths whose lines are noted in `reach.json`
(`reach.py`).
"""

import ctypes
import importlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.mutants.reach import Tracer

_OPTIONS = (
    "-q",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:nbmake",
    "-m",
    "not e2e and not chaos and not gpu and not model",
)
_GOODBYE_S = 10.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Observer:
    """A pytest plugin that writes down which test runs, the first that failed, and how long each took."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._running = _running(report)
        self._by = ""
        self._tests: dict[str, float] = {}

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running.write_text(nodeid)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests[report.nodeid] = self._tests.get(report.nodeid, 0.0) + report.duration
        if report.failed and not self._by:
            self._by = report.nodeid

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self._by:
            self._by = report.nodeid

    @pytest.hookimpl
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        report = {"code": int(exitstatus), "by": self._by, "tests": self._tests}
        self._report.with_suffix(".part").write_text(json.dumps(report))
        self._report.with_suffix(".part").replace(self._report)


ALONE_S = 60.0
"""Seconds that one test may take; without a bug none of them needs a third of it."""


def preload(tests: list[str], scratch: Path) -> None:
    """Load every module that these tests need and that is not part of the tree."""
    names = scratch / "modules.json"
    if not os.fork():
        _quiet(scratch / "preload.log")
        pytest.main([*_OPTIONS, "--collect-only", *tests])
        names.write_text(json.dumps([name for name, module in sys.modules.items() if not _ours(module)]))
        os._exit(0)
    os.wait()
    for name in json.loads(names.read_text()):
        with suppress(Exception):
            importlib.import_module(name)


def run(
    tests: list[str], limit: float, scratch: Path, *, bug: bool, trace: list[str], alone: float = ALONE_S
) -> dict[str, Any]:
    """Run the tests in a fork and clean up after it. `limit` in seconds for all of them, `alone` for each while there
    is a `bug`; nothing that it compiles to is kept."""
    report, temporary = scratch / "report.json", scratch / "tmp"
    report.unlink(missing_ok=True)
    (scratch / "reach.json").unlink(missing_ok=True)
    _running(report).unlink(missing_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(".hypothesis", ignore_errors=True)
    temporary.mkdir()
    temporary.chmod(0o755)
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _quiet(scratch / "run.log")
        os.environ["TMPDIR"] = str(temporary)
        if bug:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
        tracer = Tracer(trace) if trace else None
        plugins = [Observer(report), *([tracer] if tracer else [])]
        options = [*_OPTIONS, "--hypothesis-seed=0", *([] if tracer else ["-x"])]
        code = pytest.main([*options, *tests], plugins=plugins)
        if tracer is not None:
            tracer.write(scratch / "reach.json")
        sys.exit(code)
    reported = False
    while time.monotonic() - began < limit and not _ended(child):
        time.sleep(0.02)
        if bug and _stuck(report, alone):
            break
        if not reported and report.exists():  # A thread may be left that never ends.
            reported, limit = True, time.monotonic() - began + _GOODBYE_S
    seconds = time.monotonic() - began
    hung = seconds >= limit or (bug and _stuck(report, alone))
    _kill_everything()
    if not report.exists():
        by = _running(report).read_text() if hung and _running(report).exists() else ""
        return {"outcome": "hung" if hung else "broken", "by": by, "seconds": seconds, "tests": {}}
    session = json.loads(report.read_text())
    outcome = "passed" if session["code"] == 0 else "failed" if session["by"] else "broken"
    return {"outcome": outcome, "by": session["by"], "seconds": seconds, "tests": session["tests"]}


def main() -> None:
    scratch = Path(sys.argv[1])
    out = os.fdopen(os.dup(1), "w")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # So that servers which tests leave behind are found.
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("preload"):
            preload(asked["tests"], scratch)
            reply: dict[str, Any] = {}
        else:
            alone = asked.get("alone", ALONE_S)
            reply = run(
                asked["tests"], asked["limit"], scratch, bug=asked["bug"], trace=asked.get("trace", []), alone=alone
            )
        print(json.dumps(reply), file=out, flush=True)


def _running(report: Path) -> Path:
    """The file that names the test that runs."""
    return report.with_name("running")


def _stuck(report: Path, alone: float) -> bool:
    """Whether the test that runs has taken more than `alone` seconds."""
    running = _running(report)
    return not report.exists() and running.exists() and time.time() - running.stat().st_mtime > alone


def _ours(module: object) -> bool:
    """Whether a module is part of the tree (or of nothing: a namespace)."""
    file = Path(getattr(module, "__file__", None) or Path.cwd())
    return file.is_relative_to(Path.cwd()) and "site-packages" not in file.parts


def _quiet(log: Path) -> None:
    """Send what the tests print to a file, and give them nothing to read."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, target in enumerate((nothing, file, file)):
        os.dup2(target, number)


def _ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_everything() -> None:
    """End every process below this one; what tests started in sessions of their own has become a child by then."""
    while children := psutil.Process().children(recursive=True):
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    main()
