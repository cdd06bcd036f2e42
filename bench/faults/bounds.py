"""What a run must at least show, so that its zeros mean something."""

from collections.abc import Sequence

from bench.faults.verdict import Verdict

FULL = 300
"""Turns that are enough for every moment, party and fault of both columns; shorter runs leave some out."""
LEAST_OK = 0.999
LEAST_FIRED = 0.6
"""Share of the planned faults that came about. The rest were of turns that others' faults ended or refused before."""
MOST_REFUSED = 0.2
MOST_REFUSED_OF_FEW = 0.5
"""Share of turns that were refused because a store or the engine was away. A few dozen turns may all meet one pause."""


def shortfalls(verdicts: Sequence[Verdict], turns: int) -> list[str]:
    """Why a run of that many turns proves too little, or too few went well, in words; empty if it is enough."""
    said = []
    count, ok = sum(one.turns for one in verdicts), sum(one.ok for one in verdicts)
    planned, fired = sum(one.planned for one in verdicts), sum(one.fired.total() for one in verdicts)
    refused = sum(one.refused for one in verdicts)
    if ok < LEAST_OK * count or not count:
        said.append(f"Only {ok} of {count} turns ended as they should.")
    if fired < LEAST_FIRED * planned or not fired:
        said.append(f"Only {fired} of {planned} planned faults came about.")
    if refused > most_refused(turns) * count:
        said.append(f"{refused} of {count} turns were refused.")
    if turns >= FULL:
        said += [f"This fault never came about: {never}." for one in verdicts for never in one.never]
    return said


def most_refused(turns: int) -> float:
    """The share of a run of so many turns that may be refused."""
    return MOST_REFUSED if turns >= FULL else MOST_REFUSED_OF_FEW
