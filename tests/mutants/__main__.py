"""`python -m tests.mutants`: put a seeded sample of bugs into copies of the tree and count how many the tests notice.

A bug is killed when a test of its room fails or hangs, and does not without it (`judge.py`). What survives is written
to `build/mutants/survivors.md`, in the form of `docs/mutants.md`; every result to `build/mutants/results.jsonl`. The
last line is `{"mutants": n, "killed_share": x}`. If tests fail without any bug, it says which and ends with 1 at once:
a share without their room would be one of something else.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tests.mutants.copy import Copy
from tests.mutants.judge import Judged, Outcome, judge
from tests.mutants.known import entry, known
from tests.mutants.rooms import ROOMS, Room
from tests.mutants.sites import Site, sites

ROOT = Path(__file__).resolve().parents[2]
BASELINE_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Suite:
    """A room's test files, the quickest first, and the seconds after which they count as hung."""

    room: Room
    tests: list[str]
    limit: float


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
        scratch = folder / "scratch"
        scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker", str(scratch)],
            cwd=self.copy.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({"preload": True, "tests": list(tests)})

    def run(self, tests: list[str], limit: float, *, bug: bool) -> dict[str, Any]:
        """Run these test files; what the worker says of it."""
        return self._ask({"tests": tests, "limit": limit, "bug": bug})

    def try_(self, site: Site, suite: Suite) -> Result:
        """Run a room's tests with a bug, and again what has to be."""
        code, began = site.code, time.monotonic()
        assert code is not None

        def run(tests: list[str], limit: float, *, bug: bool) -> dict[str, Any]:
            if not bug:
                return self.run(tests, limit, bug=False)
            self.copy.apply(site.path, code)
            try:
                return self.run(tests, limit, bug=True)
            finally:
                self.copy.restore(site.path)

        judged = judge(run, nearest_first(suite.tests, site.path), suite.limit)
        return Result(site, suite.room.name, judged, time.monotonic() - began)

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


def nearest_first(tests: Sequence[str], path: str) -> list[str]:
    """The tests that are named after this file before the others, otherwise in their order."""
    own = "test_" + Path(path).stem.removesuffix("s")
    return sorted(tests, key=lambda test: not Path(test).stem.startswith(own))


def baseline(runner: Runner, room: Room) -> tuple[Room, Suite | None, str]:
    """Run a room's tests without a bug, again if they fail (some wait for real time); the suite, or what failed."""
    tests = room.test_files(runner.copy.root)
    ran = runner.run(tests, BASELINE_LIMIT_S, bug=False)
    if ran["outcome"] != "passed":
        ran = runner.run(tests, BASELINE_LIMIT_S, bug=False)
    if ran["outcome"] != "passed":
        return room, None, ran["by"] or ran["outcome"]
    took = ran["files"]
    return room, Suite(room, sorted(tests, key=lambda test: took.get(test, 0.0)), 3 * ran["seconds"] + 30), ""


def sample(root: Path, suites: Sequence[Suite], only: Sequence[str], count: int, seed: int) -> list[tuple[Site, Suite]]:
    """A seeded choice among all places of these rooms' files, without what is known to change nothing."""
    left_out = known(ROOT / "docs" / "mutants.md").equivalent
    places = [(site, suite) for suite in suites for path in wanted(suite.room, only) for site in sites(root, path)]
    random.Random(seed).shuffle(places)
    chosen: dict[tuple[str, str], tuple[Site, Suite]] = {}
    for site, suite in places:
        if len(chosen) == count:
            break
        if site.code is not None and (site.path, site.diff) not in left_out:
            chosen.setdefault((site.path, site.code), (site, suite))
    return list(chosen.values())


def wanted(room: Room, only: Sequence[str]) -> list[str]:
    """The room's files that lie under one of the paths; all of them where none is named."""
    return [file for file in room.files(ROOT) if not only or any(Path(file).is_relative_to(path) for path in only)]


def write(results: Sequence[Result], folder: Path) -> None:
    """Every result, one JSON object a line, and the survivors as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(results, key=lambda each: (each.site.path, each.site.line, each.site.diff))
    lines = [
        {"path": r.site.path, "line": r.site.line, "operator": r.site.operator, "diff": r.site.diff, "room": r.room}
        | {"outcome": r.judged.outcome, "by": r.judged.by, "seconds": round(r.seconds, 1)}
        for r in ordered
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    accepted = known(ROOT / "docs" / "mutants.md").accepted
    page = [
        entry(r.site.path, r.site.diff, accepted.get((r.site.path, r.site.diff), f"Line {r.site.line}: no reason yet."))
        for r in ordered
        if not r.judged.killed
    ]
    (folder / "survivors.md").write_text("\n".join(page))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, help="how many bugs (300)")
    parser.add_argument("--seed", type=int, default=9, help="which ones (9)")
    parser.add_argument("--only", action="append", default=[], metavar="PATH", help="a file or folder; may be repeated")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="at once (two)")
    parser.add_argument("--list", action="store_true", help="show the bugs and run nothing")
    asked = parser.parse_args()

    rooms = [room for room in ROOMS if wanted(room, asked.only)]
    if asked.list:
        for site, _ in sample(ROOT, [Suite(room, [], 0) for room in rooms], asked.only, asked.sample, asked.seed):
            print(f"{site.path}:{site.line} {site.operator}", *site.diff, sep="\n  ")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the copies go away.
    with tempfile.TemporaryDirectory(prefix="parley-mutants-") as temporary:
        Path(temporary).chmod(0o755)
        return run(asked, rooms, Path(temporary))


def run(asked: argparse.Namespace, rooms: Sequence[Room], temporary: Path) -> int:
    """The tests without a bug, then the sample; prints as it goes."""
    every_test = sorted({test for room in rooms for test in room.test_files(ROOT)})
    runners = []
    for number in range(asked.processes):
        (temporary / str(number)).mkdir()
        runners.append(Runner(temporary / str(number), every_test))
    try:
        suites, unsound = [], []
        for room, suite, failing in spread(rooms, runners, baseline):
            print(
                f"{room.name}: {f'{(suite.limit - 30) / 3:.0f} s' if suite else f'fails without a bug: {failing}'}",
                flush=True,
            )
            if suite is None:
                unsound.append(room.name)
            else:
                suites.append(suite)
        if unsound:
            print(f"Nothing was tried: without any bug, tests of {', '.join(unsound)} fail.", file=sys.stderr)
            return 1
        suites.sort(key=lambda suite: suite.room.name)
        chosen = sample(runners[0].copy.root, suites, asked.only, asked.sample, asked.seed)
        results: list[Result] = []
        began = time.monotonic()
        for result in spread(chosen, runners, lambda runner, work: runner.try_(*work)):
            results.append(result)
            if not result.judged.killed:
                print(
                    f"{result.judged.outcome}: {result.site.path}:{result.site.line}",
                    *result.site.diff,
                    sep="\n  ",
                    flush=True,
                )
            elif len(results) % 20 == 0:
                print(f"{len(results)} of {len(chosen)} after {time.monotonic() - began:.0f} s", flush=True)
    finally:
        for runner in runners:
            runner.close()
    write(results, ROOT / "build" / "mutants")
    print()
    for line in table(results):
        print(line)
    print(f"Survivors: {ROOT / 'build' / 'mutants' / 'survivors.md'}")
    share = round(sum(r.judged.killed for r in results) / len(results), 4) if results else 0.0
    print(json.dumps({"mutants": len(results), "killed_share": share}))
    return 0


def table(results: Sequence[Result]) -> list[str]:
    """A line for each room: bugs, the share that was noticed, and what became of them. `hung` ones were noticed too."""
    outcomes = get_args(Outcome)
    lines = [f"{'':<12}{'bugs':>6}{'share':>7}" + "".join(f"{outcome:>10}" for outcome in outcomes)]
    for name in sorted({r.room for r in results}):
        mine = [r.judged for r in results if r.room == name]
        counts = Counter(judged.outcome for judged in mine)
        share = sum(judged.killed for judged in mine) / len(mine)
        lines.append(f"{name:<12}{len(mine):>6}{share:>7.2f}" + "".join(f"{counts[one]:>10}" for one in outcomes))
    return lines


if __name__ == "__main__":
    sys.exit(main())
