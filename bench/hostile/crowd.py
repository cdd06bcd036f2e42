"""The hostile clients of one part, in a process of their own: what they tried, and what they got that they must not.

    python -m bench.hostile.crowd < target.json

Prints one line of JSON. The clients attack over and over for some seconds, from addresses of their own.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from bench.hostile.wire import Closed, Wire

PAUSE_S = 0.01
"""Before a client tries again: it is as fast as one over a real network, not as this machine's loopback."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom they attack, and what they have in hand. `parts` names the attacks, one client in turn for each way."""

    port: int
    parts: list[str]
    seconds: float
    clients: int
    net: int
    """Second number of the addresses 127.x.y.z that they come from."""
    marker: str
    """A word that is in everything of honest people, and in nothing that hostile ones make up."""
    events: dict[str, str]
    """Full names of events by short ones."""
    pages_per_address: int
    asset: str
    """The path of a large file."""
    cookies: list[str]
    """Of free accounts of their own."""
    keys: list[str]
    former: str
    """The cookie of an honest person's session that has ended."""
    emails: list[str]
    """Of honest people, whose passwords they do not know."""
    tabs: list[str]
    """Names of honest people's tabs."""
    generations: list[str]
    """Ids of honest people's answers."""


@dataclass(slots=True)
class Tally:
    """What came of it. `let_in` counts what they got that they must not get, by its kind."""

    tried: int = 0
    refused: int = 0
    let_in: dict[str, int] = field(default_factory=dict)
    leaked: int = 0


class Crowd:
    """What the clients of one part share."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tally = Tally()
        self.counts: Counter[str] = Counter()
        """What is bounded for several clients together, by address or account."""
        self._marker = target.marker.encode()
        self._began = time.monotonic()

    @property
    def lasted(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def source(self, number: int, behind: int = 50) -> str:
        """The network address of a client, with so many behind each."""
        at = number // behind
        return f"127.{self.target.net}.{behind}.{1 + at}" if at < 254 else f"127.{self.target.net}.{behind + 1}.{at}"

    def wire(self, source: str, buffer: int = 0) -> Wire:
        """A new connection."""
        self.tally.tried += 1
        return Wire(self.target.port, source, self._saw, buffer)

    def refused(self) -> None:
        """Parley did not do what was wanted."""
        self.tally.refused += 1

    def let_in(self, what: str) -> None:
        """Parley did what it must not do."""
        self.tally.let_in[what] = self.tally.let_in.get(what, 0) + 1

    def count(self, what: str, most: float, kind: str) -> None:
        """One more of what is bounded: more than `most` by now are let in too many."""
        self.counts[what] += 1
        if self.counts[what] > most:
            self.let_in(kind)

    def _saw(self, data: bytes) -> None:
        if self._marker in data:
            self.tally.leaked += 1


Attack = Callable[[Crowd, int], Awaitable[None]]
"""What one client does, by its number; it is called again until the part is over."""


async def attack(crowd: Crowd, ways: Sequence[Attack]) -> Tally:
    """Let them loose until the part is over."""

    async def client(number: int) -> None:
        while True:
            try:
                await ways[number % len(ways)](crowd, number)
            except (Closed, OSError):
                crowd.refused()
            await asyncio.sleep(PAUSE_S)

    clients = [asyncio.create_task(client(number)) for number in range(crowd.target.clients)]
    broken, _ = await asyncio.wait(clients, timeout=crowd.target.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for each in clients:
        each.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    for each in broken:
        each.result()
    return crowd.tally


async def main() -> None:
    from bench.hostile.attacks import ATTACKS  # They know the crowd.

    said: dict[str, Any] = json.load(sys.stdin)
    target = Target(**said)
    tally = await attack(Crowd(target), [way for name in target.parts for way in ATTACKS[name].ways])
    print(json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
