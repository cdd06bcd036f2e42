"""What stands for processes in tests of ownership: they share a database and the leases, and can die or be cut off."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count

from chat_app.data.cancel import cancelled
from chat_app.data.db.base import Database
from chat_app.data.ids import now_ms
from chat_app.data.leases.base import Leases, LeasesUnavailable
from chat_app.sessions.generations import GenerationRow, Generations, Outcome
from chat_app.sessions.ownership import Ownership

TTL_MS = 500
TTL_S = TTL_MS / 1000
_ids = count()


def new_row(owner: str, job_version: int = 1) -> GenerationRow:
    """A job that nobody has written yet."""
    number, now = next(_ids), now_ms()
    return GenerationRow(f"g{number}", "t", "ada", "free", "2026-11", now, owner=owner, job_version=job_version)


class Process:
    """What stands for a process: its ownership, and what became of the jobs it was given."""

    def __init__(self, leases: Leases, generations: Generations, version: int = 1) -> None:
        self.leases = Switched(leases)
        self.generations = generations
        self.ownership = Ownership(self.leases, generations, TTL_MS, version)
        self.worked: list[GenerationRow] = []
        self.began: list[float] = []
        self.cancelled: list[str] = []
        self.beats: list[list[str]] = []
        self.errors: list[Exception] = []
        """Raised by the next tasks, one each."""
        self.hold = asyncio.Event()
        """Once set, tasks end their job."""
        self.at_once: dict[str, int] = {}

    async def start(self) -> None:
        await self.ownership.start(self._work, self._beat)

    async def begin(self, db: Database, job_version: int = 1, *, registered: bool = True) -> GenerationRow:
        """A new job of this process, committed but not run."""
        row = new_row(self.ownership.owner, job_version)
        if registered:
            self.ownership.register(row)
        await db.batch(self.generations.create(row))
        return row

    async def die(self) -> None:
        """As if killed: nothing is released, nothing is said."""
        ownership = self.ownership
        ownership._closing = True
        await cancelled(ownership._watching, ownership._beating, ownership._keeping, *ownership._tasks)

    @property
    def ids(self) -> set[str]:
        return {row.id for row in self.worked}

    async def _work(self, row: GenerationRow) -> None:
        self.worked.append(row)
        self.began.append(time.monotonic())
        self.at_once[row.id] = self.at_once.get(row.id, 0) + 1
        assert self.at_once[row.id] == 1, "two tasks of one job"
        try:
            if self.errors:
                raise self.errors.pop(0)
            await self.hold.wait()
            await self.generations._db.batch(*self.generations.finish(row, Outcome("done")))
        except asyncio.CancelledError:
            self.cancelled.append(row.id)
            raise
        finally:
            self.at_once[row.id] -= 1

    async def _beat(self, rows: Sequence[GenerationRow]) -> None:
        self.beats.append([row.id for row in rows])


class Switched:
    """Real leases, with a wire that can be cut."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.cut = False

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def hold(self, name: str, owner: str, ttl_ms: int) -> bool:
        self._check()
        return await self._leases.hold(name, owner, ttl_ms)

    async def release(self, name: str, owner: str) -> None:
        self._check()
        await self._leases.release(name, owner)

    async def held(self, names: Iterable[str]) -> set[str]:
        self._check()
        return await self._leases.held(names)

    def _check(self) -> None:
        if self.cut:
            raise LeasesUnavailable("the wire is cut")


Start = Callable[..., Awaitable[Process]]


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
