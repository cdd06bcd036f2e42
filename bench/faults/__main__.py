"""Turns under faults: a fault at every await, counted at the clients and in the database.

    python -m bench.faults [--turns 300] [--seed 9] [--column embedded|fleet|both]

Each turn has a fault of its own at another moment, and those of its neighbours; a fault that does not come about, since
its turn was refused or stopped before, is planned again for a further turn. What was seen is held against what the
engines sent and what the ledger says. Everything that is random follows the seed, but for what runs at once.

Ends with 1 if anything was found: a count that is not 0, an error that no client should meet, a viewer and a row that
contradict each other. And if the run proves too little: too few faults came about, one of a full run (300 turns) never
did, or too many turns were refused.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Sequence
from typing import get_args

import structlog

from bench.faults import column as columns
from bench.faults.bounds import LEAST_FIRED, LEAST_OK, most_refused, shortfalls
from bench.faults.schedule import Column, plans
from bench.faults.verdict import WRONGS, Verdict
from bench.report import Row, show
from chat_app.telemetry import logs


async def main(words: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=300, help="turns in all columns together")
    arguments.add_argument("--seed", type=int, default=None, help="a number that was printed before; else a new one")
    arguments.add_argument("--column", choices=["both", *get_args(Column)], default="both")
    arguments.add_argument("--log", action="store_true", help="show what Parley logs meanwhile")
    chosen = arguments.parse_args(words)
    seed = random.randrange(1_000_000) if chosen.seed is None else chosen.seed
    if chosen.log:
        logs.configure("info")
    else:
        quiet()
    shares: dict[Column, int] = {"embedded": chosen.turns // 3, "fleet": chosen.turns - chosen.turns // 3}
    if chosen.column != "both":
        shares = {chosen.column: chosen.turns}
    print(f"seed {seed}", file=sys.stderr, flush=True)
    rows: list[Row] = [("seed", str(seed), "")]
    verdicts, found = list[Verdict](), list[str]()
    for column, turns in shares.items():
        began = time.monotonic()
        verdict = await columns.run(column, plans(seed, column, turns), seed)
        verdicts.append(verdict)
        found += [f"{column}: {what}" for what in verdict.found]
        rows.append((f"{column}: turns, ended as they should", f"{verdict.turns}, {verdict.ok}", ""))
        rows.append((f"{column}: refused honestly", str(verdict.refused), ""))
        rows.append((f"{column}: faults planned, fired", f"{verdict.planned}, {verdict.fired.total()}", ""))
        rows.append((f"{column}: answers taken over or taken up again", str(verdict.taken_over), ""))
        rows.append((f"{column}: faults", ", ".join(f"{k} {n}" for k, n in sorted(verdict.fired.items())), ""))
        rows.append((f"{column}: seconds", f"{time.monotonic() - began:.0f}", ""))
    count, ok = sum(one.turns for one in verdicts), sum(one.ok for one in verdicts)
    planned, fired = sum(one.planned for one in verdicts), sum(one.fired.total() for one in verdicts)
    refused = sum(one.refused for one in verdicts)
    wrongs = {kind: sum(one.wrongs[kind] for one in verdicts) for kind in WRONGS}
    share = ok / max(1, count)
    rows += [(kind, str(number), "0") for kind, number in wrongs.items()]
    rows.append(("faults_planned", str(planned), ""))
    rows.append(("faults_fired", f"{fired} ({fired / max(1, planned):.0%})", f">= {LEAST_FIRED:.0%}"))
    rows.append(("refused", f"{refused} ({refused / max(1, count):.0%})", f"<= {most_refused(chosen.turns):.0%}"))
    rows.append(("turns_ok_share", f"{share:.4f}", f">= {LEAST_OK}"))
    short = shortfalls(verdicts, chosen.turns)
    failed = bool(short or found) or any(wrongs.values())
    if failed:
        print(f"\nseed {seed}: what was found", *short, *found, sep="\n  ", file=sys.stderr, flush=True)
    figures = {"turns": count, "turns_ok": ok, "turns_ok_share": share, **wrongs}
    figures |= {"faults_planned": planned, "faults_fired": fired, "refused": refused}
    show("Turns under faults", rows, figures)
    return int(failed)


def quiet() -> None:
    """Faults make Parley log a lot; what matters is counted here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
