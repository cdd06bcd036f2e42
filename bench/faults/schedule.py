"""Which fault meets which turn, and at which await: every pair that makes sense once, before any comes twice."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

Column = Literal["embedded", "fleet"]
NETWORK = ("delay", "reset", "lost", "pause", "half-open")
FAULTS: dict[Column, dict[str, tuple[str, ...]]] = {
    "fleet": {
        "database": NETWORK,
        "log": NETWORK,
        "engine": (*NETWORK, "killed"),
        "replica": ("closed", "killed"),
    },
    "embedded": {
        "database": ("delay", "pause"),
        "log": ("delay", "pause"),
        "engine": (*NETWORK, "killed"),
        "replica": ("closed", "killed"),
    },
}
"""What can befall each party. A file cannot be reset: there another program holds its lock."""
MOMENTS: dict[str, tuple[str, ...]] = {
    "admit": ("database", "log", "replica"),
    "prepare": ("database", "engine", "replica"),
    "hold": ("database", "replica"),
    "held": ("database", "log", "replica"),
    "ask": ("engine", "replica"),
    "append": ("database", "log", "engine", "replica"),
    "seal": ("database", "log", "replica"),
    "sealed": ("database", "log", "replica"),
    "passage": ("database", "replica"),
    "tool": ("database", "log", "replica"),
    "further": ("database", "engine", "replica"),
    "settle": ("database", "replica"),
    "settled": ("log", "replica"),
    "end": ("log", "replica"),
    "leave": ("log", "replica"),
}
"""The awaits of a turn, in their order, and whose fault matters there. `held`, `sealed` and `settled` are behind what
they are named after; `append` is one of the first appends; `passage` and `further` lead to the tool and from it."""
OF_STEPS = ("passage", "tool", "further")
MOST_TRIES = 4
"""Turns that a fault is planned for, if it does not befall the first of them."""
SHORTEST_S, LONGEST_S = 1.0, 6.5
CALL = {"name": "calculator", "arguments": {"expression": "17 * 23"}}


@dataclass(frozen=True, slots=True)
class Plan:
    """One turn: what it asks, and the fault that `party` has when it reaches `moment` for the `nth` time."""

    number: int
    moment: str
    party: str
    fault: str
    seconds: float
    nth: int
    directive: dict[str, Any]
    source: Literal["chat", "api"]
    stopped: bool
    tries: int = 1

    @property
    def pair(self) -> tuple[str, str, str]:
        """Moment, party and fault."""
        return self.moment, self.party, self.fault

    def again(self) -> "Plan":
        """The same fault for another turn, since this one came to an end before it: refused or stopped by then."""
        return replace(self, nth=1, stopped=False, tries=self.tries + 1)

    @property
    def question(self) -> str:
        """What the scripted engine is asked."""
        return json.dumps({"script": self.directive})

    @property
    def directives(self) -> list[dict[str, Any]]:
        """What it answers in each model step."""
        first = {key: value for key, value in self.directive.items() if key != "then"}
        return [first, self.directive["then"]] if "then" in self.directive else [first]

    def __str__(self) -> str:
        steps = len(self.directives)
        what = f"{self.party} {self.fault} {self.seconds:.1f} s" if self.fault else "no fault"
        return f"turn {self.number} ({self.source}, {steps} model step{'s' * (steps > 1)}): {what} at {self.moment}"


def plans(seed: int, column: Column, turns: int) -> list[Plan]:
    """The turns of one column, the same for the same seed."""
    chance = random.Random(f"{seed}:{column}")
    pairs = _pairs(chance, column)
    return [_plan(chance, number, *next(pairs)) for number in range(turns)]


def _pairs(chance: random.Random, column: Column) -> Iterator[tuple[str, str, str]]:
    faults = FAULTS[column]
    every = [
        (moment, party, fault) for moment, parties in MOMENTS.items() for party in parties for fault in faults[party]
    ]
    chance.shuffle(every)
    yield from cycle(every)


def _plan(chance: random.Random, number: int, moment: str, party: str, fault: str) -> Plan:
    stopped = chance.random() < 0.04
    drift = chance.random() < 0.5
    directive = _text(chance, drift)
    if moment in OF_STEPS or chance.random() < 0.35:
        directive |= {"calls": [CALL], "then": _text(chance, drift)}
    seconds = chance.uniform(SHORTEST_S, LONGEST_S)
    source: Literal["chat", "api"] = "api" if chance.random() < 0.3 else "chat"
    return Plan(number, moment, party, fault, seconds, chance.randint(1, 6), directive, source, stopped)


def _text(chance: random.Random, drift: bool) -> dict[str, Any]:
    tokens, rate = chance.randint(30, 120), chance.randint(50, 120)
    return {"tokens": tokens, "rate": rate, "seed": chance.randrange(1_000_000), "drift": drift}
