"""When the text of a stream reached its client: in how many pieces, and how long after the engine had it ready."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from bench.foreign import RATE, text


@dataclass(slots=True)
class Arrivals:
    """A streamed answer as its client got it; `came` are the seconds of the monotonic clock for each part of it."""

    parts: list[bytes] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    @property
    def whole(self) -> bytes:
        return b"".join(self.parts)

    def pieces(self) -> list[tuple[float, str]]:
        """Each event that has text: when the last of it arrived, and the text."""
        found, rest = [], b""
        for came, part in zip(self.came, self.parts, strict=True):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    choices = orjson.loads(line[6:]).get("choices") or ()
                    if said := "".join(choice["delta"].get("content") or "" for choice in choices):
                        found.append((came, said))
        return found


@dataclass(frozen=True, slots=True)
class Flow:
    """Of many streams: pieces of text in each, and for every token the seconds from when it was due at the engine to
    when its client had all of it."""

    pieces: float
    delays: Sequence[float]


def flow(streams: Sequence[tuple[Arrivals, float]], tokens: int) -> Flow:
    """`streams`: each answer, whole, with the moment at which the engine began it; a token is due every 1 / RATE s."""
    ends = [len(text(count)) for count in range(1, tokens + 1)]
    delays, pieces = list[float](), 0
    for arrivals, begun in streams:
        length = arrived = 0
        for came, said in arrivals.pieces():
            pieces += 1
            length += len(said)
            for at in range(arrived, arrived := bisect_right(ends, length)):
                delays.append(came - (begun + (at + 1) / RATE))
    return Flow(pieces / len(streams), delays)
