"""What Parley costs as a gateway: over a foreign engine, beside LiteLLM and the best that a relay could do.

    python -m bench.gateway [--quick] [--only NAME ...] [--tokenize] [--gather MS]

One scripted backend, one worker a side, all in one run on the same cores, rounds alternating. Parley keeps limits,
ledger, log and events, on SQLite and (`_fleet`) on PostgreSQL and Valkey; the relay passes bytes on; LiteLLM keeps
nothing. Ratios and differences are taken round by round, and medians of those are reported. Ends with 1 if a figure
misses its bound; what was not measured, since its part or its side was left out or is missing, does not.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import loads
from bench.bounds import GATEWAY
from bench.foreign import ROUNDS
from bench.loads import Pace
from bench.peer_litellm import PeerMissing
from bench.report import Row, conclude, p50, p95
from bench.sides import GATHER_MS, Side, Sides

CLIENTS = 50
STREAMS = 20
STREAM_TOKENS = 300
TURN_TOKENS = 200
STEPS_A_ROUND = 2
"""Of a turn with calls, beyond its first step: one of the tool, one of the model that reads its result."""
WAYS = ("direct", "relay", "parley", "fleet", "litellm")
Figures = dict[str, float | str | None]
Rounds = dict[str, list[Pace]]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, and in each of them seconds, requests and tokens a stream."""

    rounds: int = 5
    seconds: float = 4.0
    blocks: int = 20
    requests: int = 25
    tokens: int = STREAM_TOKENS
    alone: int = 3
    """Rounds of one stream alone, which take as long as those of twenty."""


QUICK = Size(rounds=2, seconds=2.0, blocks=5, requests=20, tokens=150, alone=2)
PREFIX = {"parley": "", "fleet": "", "relay": "relay_", "litellm": "litellm_"}


class Bench:
    """The parts, over sides that run."""

    def __init__(self, sides: Sequence[Side], size: Size) -> None:
        self._sides = {side.name: side for side in sides}
        self._size = size
        self.rows: list[Row] = []
        self.figures: Figures = {}

    async def added(self) -> None:
        """Unstreamed, one client: what each side adds to the backend's own time."""
        ours: dict[str, list[float]] = defaultdict(list)
        tails: dict[str, list[float]] = defaultdict(list)
        for at in range(self._size.blocks):
            seen = {side.name: await loads.latencies(side, self._size.requests) for side in self._order(at)}
            bare, bare_tail = p50(seen["direct"]), p95(seen["direct"])
            for name, seconds in seen.items():
                ours[name].append((p50(seconds) - bare) * 1000)
                tails[name].append((p95(seconds) - bare_tail) * 1000)
        shown = {name: f"{p50(ours[name]):.2f} (p95 {p50(tails[name]):.2f})" for name in ours}
        self._report("added_ms_p50", {name: p50(values) for name, values in ours.items()})
        self._row("added by an unstreamed call, one client, ms", shown, "added_ms_p50")

    async def requests(self) -> None:
        """Unstreamed, fifty clients who do not wait."""
        rounds = await self._rounds(lambda side: loads.clients(side, CLIENTS, self._size.seconds))
        rates = {name: p50([pace.rate for pace in paces]) for name, paces in rounds.items()}
        shown = {name: f"{rate:.0f}/s, {_cpu(rounds[name], 1e3):.2f} ms" for name, rate in rates.items()}
        self._report("requests_per_s_50", rates)
        self._report("cpu_ms_request_50", {name: _cpu(paces, 1e3) for name, paces in rounds.items()})
        self._row(f"requests, {CLIENTS} clients, and CPU for each", shown, "requests_per_s_50")
        self._stores("cpu_ms_request_50", rounds, 1e3, "ms a request")
        over = None
        if "litellm" in rounds:
            over = p50([a.rate / b.rate for a, b in zip(rounds["parley"], rounds["litellm"], strict=True)])
        self.figures["throughput_over_peer"] = over
        shown_over = "–" if over is None else f"{over:.1f}"
        self.rows.append(("requests, Parley / LiteLLM", shown_over, limits("throughput_over_peer")))

    async def streams(self) -> None:
        """Twenty streams at 50 tokens a second each."""
        rounds = await self._rounds(lambda side: loads.streams(side, STREAMS, self._size.tokens))
        shown = {n: f"{_cpu(p, 1e6):.0f} µs ({p50([x.rate for x in p]):.0f}/s)" for n, p in rounds.items()}
        self._report("cpu_us_token_20", {name: _cpu(paces, 1e6) for name, paces in rounds.items()})
        self._row(f"CPU a token, {STREAMS} streams at 50 tokens/s", shown, "cpu_us_token_20")
        self._stores("cpu_us_token_20", rounds, 1e6, "µs a token")
        self._flow(STREAMS, rounds)

    async def alone(self) -> None:
        """One stream at 50 tokens a second."""
        rounds = await self._rounds(lambda side: loads.streams(side, 1, self._size.tokens), self._size.alone)
        shown = {name: f"{_cpu(paces, 1e6):.0f} µs" for name, paces in rounds.items()}
        self._report("cpu_us_token_1", {name: _cpu(paces, 1e6) for name, paces in rounds.items()})
        self._row("CPU a token, one stream at 50 tokens/s", shown, "cpu_us_token_1")
        self._stores("cpu_us_token_1", rounds, 1e6, "µs a token")
        self._flow(1, rounds)

    async def turn(self) -> None:
        """A whole streamed turn: one of twenty at the pace, then one after the other without a pause."""
        paced = await self._rounds(lambda side: loads.streams(side, STREAMS, TURN_TOKENS))
        at_once = await self._rounds(lambda side: loads.turns(side, TURN_TOKENS, self._size.seconds / 2))
        for key, what, rounds, scale in (
            ("cpu_ms_turn_200", "at 50 tokens/s, one of 20", paced, TURN_TOKENS * 1e3),
            ("cpu_ms_turn_200_at_once", "that comes at once", at_once, 1e3),
        ):
            values = {name: _cpu(paces, scale) for name, paces in rounds.items()}
            self._report(key, values)
            shown = {name: f"{value:.1f} ms" for name, value in values.items()}
            self._row(f"CPU of a turn of {TURN_TOKENS} tokens {what}", shown, key)
            self._stores(key, rounds, scale, "ms a turn")

    async def steps(self) -> None:
        """A turn in which the model calls Parley's calculator several times, less one in which it does not."""
        ours: dict[str, list[float]] = defaultdict(list)
        for at in range(self._size.blocks):
            for side in self._order(at):
                if side.name in ("parley", "fleet"):
                    plain = await loads.latencies(side, self._size.requests // 2)
                    calling = await loads.latencies(side, self._size.requests // 2, tools=[{"type": "calculator"}])
                    ours[side.name].append((p50(calling) - p50(plain)) * 1000 / ROUNDS)
        rounds = {name: p50(values) for name, values in ours.items()}
        steps = {name: value / STEPS_A_ROUND for name, value in rounds.items()}
        for key, what, values in (
            (
                "round_overhead_ms",
                "a round of a turn (the tool, then the model that reads it; engine included), ms",
                rounds,
            ),
            ("steps_overhead_ms", "  a further step: the mean of these two, ms", steps),
        ):
            self._report(key, values, ("parley", "fleet"))
            self._row(what, {name: f"{value:.2f}" for name, value in values.items()}, key)

    def _flow(self, count: int, rounds: Rounds) -> None:
        """How the text of paced streams came: pieces, and how late its tokens were."""
        flows = {name: [pace.flow for pace in paces if pace.flow is not None] for name, paces in rounds.items()}
        pieces = {name: p50([one.pieces for one in of]) for name, of in flows.items()}
        late = {name: p50([p95(one.delays) for one in of]) * 1000 for name, of in flows.items()}
        latest = {name: max(max(one.delays) for one in of) * 1000 for name, of in flows.items()}
        self._report(f"pieces_stream_{count}", pieces)
        self._report(f"delay_ms_p95_{count}", late)
        self._report(f"delay_ms_max_{count}", latest)
        streams = f"{count} streams" if count > 1 else "one stream"
        tokens = self._size.tokens
        self._row(f"pieces of {tokens} tokens, {streams}", {name: f"{value:.0f}" for name, value in pieces.items()})
        shown = {name: f"{value:.0f} (most {latest[name]:.0f})" for name, value in late.items()}
        self._row(f"a token's delay, {streams}, p95, ms", shown, f"delay_ms_p95_{count}")

    def _stores(self, key: str, rounds: Rounds, scale: float, unit: str) -> None:
        """What PostgreSQL and Valkey used for what the row above says of Parley."""
        value = p50([pace.stores_cpu_s for pace in rounds["fleet"]]) * scale if "fleet" in rounds else None
        self.figures[f"{key}_stores_fleet"] = value
        if value is not None:
            self.rows.append((f"  and of the fleet's stores, {unit}", f"{value:.2f}", ""))

    async def _rounds(self, load: Callable[[Side], Awaitable[Pace]], count: int | None = None) -> Rounds:
        rounds: Rounds = defaultdict(list)
        for at in range(count or self._size.rounds):
            for side in self._order(at):
                if side.name != "direct":
                    rounds[side.name].append(await load(side))
        return rounds

    def _order(self, at: int) -> list[Side]:
        sides = list(self._sides.values())
        return sides if at % 2 == 0 else sides[::-1]

    def _report(self, key: str, values: dict[str, float], names: Sequence[str] = WAYS[1:]) -> None:
        for name in names:
            suffix = "_fleet" if name == "fleet" else ""
            self.figures[f"{PREFIX[name]}{key}{suffix}"] = values.get(name)

    def _row(self, what: str, shown: dict[str, str], key: str = "") -> None:
        """`key`: of the figure that is shown, if it may have a bound."""
        others = [f"{name} {shown[name]}" for name in ("fleet", "litellm", "relay") if name in shown]
        self.rows.append((what, " · ".join([shown["parley"], *others]), limits(key)))


def limits(key: str) -> str:
    """The bounds of a figure and of the fleet's, in words; empty if it has none."""
    own, fleet = GATEWAY.get(key), GATEWAY.get(f"{key}_fleet")
    return ", fleet ".join(str(bound) for bound in (own, fleet) if bound is not None)


def _cpu(paces: Sequence[Pace], scale: float) -> float:
    return p50([pace.cpu_s for pace in paces]) * scale


PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "added": Bench.added,
    "requests": Bench.requests,
    "streams": Bench.streams,
    "alone": Bench.alone,
    "turn": Bench.turn,
    "steps": Bench.steps,
}


async def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look, a minute or two: few rounds, short ones")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part (may be repeated)")
    parser.add_argument("--without", action="append", choices=WAYS[1:], default=[], help="leave this side out")
    parser.add_argument("--tokenize", action="store_true", help="the backend counts tokens")
    parser.add_argument(
        "--gather", type=int, default=GATHER_MS, metavar="MS", help="most that Parley gathers of a text"
    )
    chosen = parser.parse_args(words)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-bench-")))
        sides = Sides(stack, folder, tokenize=chosen.tokenize, gather_ms=chosen.gather)
        running, missing = [sides.direct], ""
        for name in WAYS[1:]:
            if name not in chosen.without:
                try:
                    running.append(getattr(sides, name)())
                except PeerMissing as error:
                    missing = str(error)
        bench = Bench(running, QUICK if chosen.quick else Size())
        for side in running:
            await loads.latencies(side, 20)  # Warm.
        for name in chosen.only or PARTS:
            await PARTS[name](bench)
        if missing:
            bench.rows.append(("LiteLLM", missing, ""))
    return conclude("Parley as a gateway", bench.rows, bench.figures, GATEWAY)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
