"""Honest people beside hostile ones: whether they get their answers, and what the hostile ones get.

    python -m bench.hostile [--quick] [--only PART ...] [--column embedded|fleet|both]

The whole product runs as for a person. Six honest people ask and read over and over, on pages and with programs. Part
after part, two hundred hostile clients attack beside them from their own addresses, then all kinds at once. They run
behind everybody else (`nice`), since they would be other machines. Each part says what it did to the loop of the
server's process (its own figure), to its memory, and to the honest.

The longest delay is the upper edge of a bucket of the server's histogram. Memory is the more of two: the most that the
server held in any part over the most that it held for the honest alone (two passwords that are hashed at once have 92
MB of that), and the most that it held after a part over what it held before the first.

Ends with 1 if a figure misses its bound.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.bounds import HOSTILE
from bench.hostile.attacks import ATTACKS
from bench.hostile.gauge import Gauge, longest
from bench.hostile.honest import Rounds, live
from bench.hostile.town import Town, settle
from bench.report import Row, conclude, p50
from tests.app import RunningApp
from tests.servers import Postgres, Valkey, new_database

CLIENTS = 200
SECONDS, QUICK_S = 8.0, 4.0
REST_S = 2.0
"""After a part: its clients are gone, and the server notices."""
BEHIND = 10
"""How much nicer the hostile clients' process is."""
QUIET = "honest people alone"
TOGETHER = "all of these at once"


@dataclass(slots=True)
class Column:
    """What was found on one column."""

    name: str
    delay_ms: float = 0.0
    alone_ms: float = 0.0
    """The longest delay beside honest people alone: more of it than a few tens is the machine's."""
    alone_mb: float = 0.0
    most_mb: float = 0.0
    before_mb: float = 0.0
    left_mb: float = 0.0
    let_in: int = 0
    leaked: int = 0
    honest: Rounds = field(default_factory=Rounds)
    rows: list[Row] = field(default_factory=list)

    def figures(self) -> dict[str, float | str | None]:
        suffix = "" if self.name == "embedded" else f"_{self.name}"
        found = {
            "loop_delay_ms_max": self.delay_ms,
            "rss_growth_mb": round(max(self.most_mb - self.alone_mb, self.left_mb - self.before_mb), 1),
            "honest_ok_share": self.honest.ok / max(1, self.honest.all),
            "loop_delay_ms_alone": self.alone_ms,
            "honest_rounds": self.honest.all,
            "let_in": self.let_in,
            "leaked": self.leaked,
        }
        return {f"{key}{suffix}": value for key, value in found.items()}


async def attacked(app: RunningApp, column: Column, parts: Sequence[str], seconds: float) -> None:
    """One part after the other, then all at once."""
    town = await settle(app)
    gauge = Gauge(app)
    async with gauge.watching():
        await _part(column, town, gauge, QUIET, [], seconds, 0)
        column.alone_mb, column.before_mb = column.most_mb, column.left_mb
        for net, name in enumerate(parts):
            await _part(column, town, gauge, ATTACKS[name].words, [name], seconds, 10 + net)
        if len(parts) > 1:
            await _part(column, town, gauge, TOGETHER, list(parts), 2 * seconds, 9)


async def _part(
    column: Column, town: Town, gauge: Gauge, words: str, parts: list[str], seconds: float, net: int
) -> None:
    ways = [*(one.on_a_page for one in town.on_pages), *(one.in_a_program for one in town.with_programs)]
    before, at_first = await gauge.delays(), gauge.rss_mb()
    gauge.peak_mb = 0.0
    target = replace(town.target, parts=parts, seconds=seconds, clients=CLIENTS, net=net)
    attack = asyncio.create_task(_crowd(asdict(target))) if parts else None
    rounds = await live(ways, seconds)
    tally = await attack if attack else {"tried": 0, "refused": 0, "let_in": {}, "leaked": 0}
    await asyncio.sleep(REST_S)
    delay, peak = longest(before, await gauge.delays()), gauge.peak_mb
    left = gauge.rss_mb()
    column.most_mb, column.left_mb = max(column.most_mb, peak), max(column.left_mb, left)
    let_in = sum(tally["let_in"].values())
    if not parts:
        column.alone_ms = delay
    else:
        column.delay_ms = max(column.delay_ms, delay)
        column.let_in, column.leaked = column.let_in + let_in, column.leaked + tally["leaked"]
        column.honest.ok += rounds.ok
        column.honest.failed += rounds.failed
    seen = (
        f"loop {delay:.0f} ms · memory {peak - at_first:+.1f} MB, then {left - at_first:+.1f} ·"
        f" honest {rounds.ok}/{rounds.all}, {p50(rounds.seconds or [0]):.1f} s"
    )
    got = f"tried {tally['tried']}, refused {tally['refused']}, let in {let_in}, leaked {tally['leaked']}"
    column.rows.append((f"{column.name}: {words}", seen, got if parts else ""))
    print(f"{column.name}: {words}: {seen}; {got}", file=sys.stderr, flush=True)
    for what, times in tally["let_in"].items():
        column.rows.append(("  let in", f"{what} ({times})", ""))
    for failed in sorted(set(rounds.failed))[:3]:
        column.rows.append(("  an honest round failed", failed, ""))


async def _crowd(target: dict[str, Any]) -> dict[str, Any]:
    """What a crowd in a process of its own reports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.hostile.crowd"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: os.nice(BEHIND),
    )
    out, _ = await process.communicate(json.dumps(target).encode())
    if process.returncode:
        raise RuntimeError("the hostile clients broke off")
    found: dict[str, Any] = json.loads(out)
    return found


async def main(words: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="a look: half as long")
    arguments.add_argument("--only", action="append", choices=ATTACKS, help="this part (may be repeated)")
    arguments.add_argument("--column", choices=["both", "embedded", "fleet"], default="both")
    chosen = arguments.parse_args(words)
    rows: list[Row] = []
    figures: dict[str, float | str | None] = {}
    for name in ("embedded", "fleet") if chosen.column == "both" else (chosen.column,):
        column = Column(name)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-hostile-")))
            env = _fleet(stack) if name == "fleet" else {}
            app = stack.enter_context(RunningApp(folder / "home", env=env))
            await attacked(app, column, chosen.only or list(ATTACKS), QUICK_S if chosen.quick else SECONDS)
            column.rows += _errors(app)
        rows += column.rows
        figures |= column.figures()
    rows += [(key, f"{value:.4g}", str(HOSTILE.get(key, ""))) for key, value in figures.items() if value is not None]
    return conclude("Parley among hostile clients", rows, figures, HOSTILE)


def _errors(app: RunningApp) -> list[Row]:
    """What the server logged as an error, but for what pages report of themselves: hostile ones do."""
    lines = app.log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if '"level": "error"' in line and "[Reflex Frontend Exception]" not in line]
    said = Counter(line.partition('"event": "')[2][:60] for line in errors)
    return [("  errors in the server's log", str(len(errors)), "")] + [
        ("", words, str(times)) for words, times in said.most_common(3)
    ]


def _fleet(stack: ExitStack) -> dict[str, str]:
    postgres, valkey = Postgres(), Valkey()
    for server in (postgres, valkey):
        stack.callback(server.remove)
        server.start()
    return {"PARLEY_DATABASE_URL": new_database(postgres.url), "PARLEY_REDIS_URL": valkey.url}


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
