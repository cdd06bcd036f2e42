"""Copies of the tree in which tests are run, all at once: without any bug first, then with one at a time."""

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.copy import Copy
from tests.mutants.judge import Judged, judge
from tests.mutants.reach import Reach, statement
from tests.mutants.rooms import Room
from tests.mutants.sites import Site

ROOT = Path(__file__).resolve().parents[2]
BASELINE_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a bug, and how long it took to find out."""

    site: Site
    room: str
    judged: Judged
    seconds: float


class Runner:
    """A copy of the tree and the process that runs tests in it."""

    def __init__(self, folder: Path, tests: Sequence[str]) -> None:
        self.copy = Copy(ROOT, folder / "tree")
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker", str(self._scratch)],
            cwd=self.copy.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({"preload": True, "tests": list(tests)})

    def run(self, tests: list[str], limit: float, *, bug: bool, trace: Sequence[str] = ()) -> dict[str, Any]:
        """Run these test files or tests; what the worker says of it."""
        return self._ask({"tests": tests, "limit": limit, "bug": bug, "trace": list(trace)})

    def noted(self) -> dict[str, Any]:
        """What the last run with `trace` noted, as `Tracer.write` has it; nothing if it did not come to its end."""
        noted = self._scratch / "reach.json"
        return dict(json.loads(noted.read_text())) if noted.exists() else {"lines": {}, "started": ["app", "inference"]}

    def try_(self, site: Site, room: Room, reach: Reach) -> Result:
        """Run those of a room's tests that can notice a bug, and again what has to be."""
        code, began = site.code, time.monotonic()
        assert code is not None
        lines = statement((self.copy.root / site.path).read_text(), site.line)
        tests = reach.tests(site.path, lines, nearest_first(room.test_files(self.copy.root), site.path, reach))
        if not tests:
            return Result(site, room.name, Judged("survived", "no test runs it"), 0.0)

        def run(tests: list[str], limit: float, *, bug: bool) -> dict[str, Any]:
            if not bug:
                return self.run(tests, limit, bug=False)
            self.copy.apply(site.path, code)
            try:
                return self.run(tests, limit, bug=True)
            finally:
                self.copy.restore(site.path)

        judged = judge(run, tests, 3 * sum(reach.seconds[test] for test in tests) + 30)
        return Result(site, room.name, judged, time.monotonic() - began)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The worker ended.")
        return dict(json.loads(line))


def spread(work: Sequence[Any], runners: Sequence[Runner], do: Any) -> Iterator[Any]:
    """`do(runner, item)` for all of the work, on all runners at once; results as they come."""
    left, done, failed = deque(work), deque[Any](), deque[BaseException]()
    ready = threading.Semaphore(0)

    def loop(runner: Runner) -> None:
        try:
            while left:
                done.append(do(runner, left.popleft()))
                ready.release()
        except IndexError:
            pass
        except BaseException as error:
            failed.append(error)
            ready.release()

    threads = [threading.Thread(target=loop, args=(runner,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    for _ in range(len(work)):
        ready.acquire()
        if failed:
            raise failed[0]
        while done:
            yield done.popleft()


def baseline(runner: Runner, file: str, traced: Sequence[str], reach: Reach) -> tuple[str, str]:
    """Run a test file without a bug and note what it reaches; the file, and what failed.

    What fails is run again without noting, which takes its time: some tests wait for real time.
    """
    ran = runner.run([file], BASELINE_LIMIT_S, bug=False, trace=traced)
    noted = runner.noted()
    if ran["outcome"] != "passed":
        untraced = runner.run([file], BASELINE_LIMIT_S, bug=False)
        if untraced["outcome"] != "passed":
            return file, untraced["by"] or untraced["outcome"]
    reach.add(file, ran["tests"], noted)
    return file, ""


def nearest_first(files: Sequence[str], path: str, reach: Reach) -> list[str]:
    """The test files that are named after this file before the others, otherwise the quickest first."""
    own, took = "test_" + Path(path).stem.removesuffix("s"), dict.fromkeys(files, 0.0)
    for test, seconds in reach.seconds.items():
        if (file := test.partition("::")[0]) in took:
            took[file] += seconds
    return sorted(files, key=lambda file: (not Path(file).stem.startswith(own), took[file]))
