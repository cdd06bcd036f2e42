"""`python -m tests.mutants`: put a seeded sample of bugs into copies of the tree and count how many the tests notice.

A bug is killed when a test of its room fails or hangs, and does not without it (`judge.py`); only those are run that
reach it (`reach.py`). What survives is written to `build/mutants/survivors.md`, in the form of `docs/mutants.md`; every
result to `build/mutants/results.jsonl`. `--again` with that file tries only what survived, after tests were written for
it; what was killed counts as killed. The last line is `{"mutants": n, "killed_share": x}`. If tests fail without any
bug, it says which and ends with 1 at once: a share without their room would be one of something else.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tests.mutants.earlier import Earlier
from tests.mutants.judge import Outcome
from tests.mutants.known import entry, known
from tests.mutants.reach import Reach
from tests.mutants.rooms import ROOMS, Room
from tests.mutants.runner import ROOT, Result, Runner, baseline, spread
from tests.mutants.sites import Site, sites


def sample(root: Path, rooms: Sequence[Room], only: Sequence[str], count: int, seed: int) -> list[tuple[Site, Room]]:
    """A seeded choice among all places of these rooms' files, without what is known to change nothing."""
    left_out = known(ROOT / "docs" / "mutants.md").equivalent
    places = [(site, room) for room in rooms for path in wanted(room, only) for site in sites(root, path)]
    random.Random(seed).shuffle(places)
    chosen: dict[tuple[str, str], tuple[Site, Room]] = {}
    for site, room in places:
        if len(chosen) == count:
            break
        if site.code is not None and (site.path, site.diff) not in left_out:
            chosen.setdefault((site.path, site.code), (site, room))
    return list(chosen.values())


def wanted(room: Room, only: Sequence[str]) -> list[str]:
    """The room's files that lie under one of the paths; all of them where none is named."""
    return [file for file in room.files(ROOT) if not only or any(Path(file).is_relative_to(path) for path in only)]


def write(results: Sequence[Result], folder: Path, earlier: Earlier) -> None:
    """Every result, one JSON object a line, and the survivors as a page; with what an earlier run killed."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(results, key=lambda each: (each.site.path, each.site.line, each.site.diff))
    lines = [
        {"path": r.site.path, "line": r.site.line, "operator": r.site.operator, "diff": r.site.diff, "room": r.room}
        | {"outcome": r.judged.outcome, "by": r.judged.by, "seconds": round(r.seconds, 1)}
        for r in ordered
    ]
    text = "".join(json.dumps(line) + "\n" for line in (*earlier.killed, *lines))
    (folder / "results.jsonl").write_text(text)
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
    parser.add_argument("--again", type=Path, metavar="RESULTS", help="only what survived in this results.jsonl")
    parser.add_argument("--processes", type=int, default=2 * (os.cpu_count() or 1), help="at once (two a core)")
    parser.add_argument("--list", action="store_true", help="show the bugs and run nothing")
    asked = parser.parse_args()

    rooms = [room for room in ROOMS if wanted(room, asked.only)]
    earlier = Earlier.read(asked.again, known(ROOT / "docs" / "mutants.md").equivalent) if asked.again else Earlier()
    if asked.list:
        for site, _ in chosen_from(ROOT, rooms, asked, earlier):
            print(f"{site.path}:{site.line} {site.operator}", *site.diff, sep="\n  ")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the copies go away.
    with tempfile.TemporaryDirectory(prefix="parley-mutants-") as temporary:
        Path(temporary).chmod(0o755)
        return run(asked, rooms, Path(temporary), earlier)


def chosen_from(
    root: Path, rooms: Sequence[Room], asked: argparse.Namespace, earlier: Earlier
) -> list[tuple[Site, Room]]:
    """The bugs of this run."""
    if asked.again:
        return list(earlier.survivors(root, rooms))
    return sample(root, rooms, asked.only, asked.sample, asked.seed)


def run(asked: argparse.Namespace, rooms: Sequence[Room], temporary: Path, earlier: Earlier) -> int:
    """The tests without a bug, then the sample; prints as it goes."""
    files = {test for room in rooms for test in room.test_files(ROOT)}
    every_test = sorted(files, key=lambda test: (ROOT / test).stat().st_size, reverse=True)  # The longest first.
    runners = []
    for number in range(asked.processes):
        (temporary / str(number)).mkdir()
        runners.append(Runner(temporary / str(number), every_test))
    try:
        reach, traced = Reach(), sorted({path for room in rooms for path in room.files(ROOT)})
        began, unsound = time.monotonic(), 0
        for file, failing in spread(every_test, runners, lambda runner, file: baseline(runner, file, traced, reach)):
            if failing:
                print(f"{file} fails without a bug: {failing}", flush=True)
                unsound += 1
        if unsound:
            print(f"Nothing was tried: without any bug, tests of {unsound} file(s) fail.", file=sys.stderr)
            return 1
        print(f"{len(reach.seconds)} tests without a bug after {time.monotonic() - began:.0f} s", flush=True)
        chosen = chosen_from(runners[0].copy.root, rooms, asked, earlier)
        results: list[Result] = []
        began = time.monotonic()
        for result in spread(chosen, runners, lambda runner, work: runner.try_(*work, reach)):
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
    write(results, ROOT / "build" / "mutants", earlier)
    print()
    for line in table(results):
        print(line)
    print(f"Survivors: {ROOT / 'build' / 'mutants' / 'survivors.md'}")
    bugs = len(results) + len(earlier.killed)
    killed = sum(r.judged.killed for r in results) + len(earlier.killed)
    print(json.dumps({"mutants": bugs, "killed_share": round(killed / bugs, 4) if bugs else 0.0}))
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
