"""Clients: one turn asked, followed by three viewers, which come back wherever they are let in."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

from bench.faults.replica import Replica
from bench.faults.schedule import Plan
from bench.faults.verdict import UNKNOWN
from bench.faults.witness import CURRENT, DIED, Turn, Witness
from chat_app.accounts.identity import Identity
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.log.base import LogUnavailable
from chat_app.data.log.entries import Entry
from chat_app.sessions.viewer import Update
from chat_app.turn import Started, TurnError
from inference.protocol import Message

STUCK_S = 120.0
"""A turn whose clients have not seen its end by then is stuck; no fault lasts a tenth of it."""
AWAY = (DatabaseUnavailable, LeasesUnavailable, LogUnavailable)
FULL = ("too_many_streams", "rate_limited")


class View:
    """What one viewer has seen of an answer."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.offset = 0
        self.gaps = 0
        self.overlaps = 0
        self.end = ""
        self.errors: list[str] = []
        """Errors that a viewer should not meet, in Python's words."""

    def take(self, update: Update) -> None:
        self.gaps += update.offset > self.offset
        self.overlaps += update.offset < self.offset
        self.entries += update.entries
        self.offset = update.next
        self.end = update.end or ""


class Clients:
    """Everybody who asks something in one column. `people` may have a few answers at a time each."""

    def __init__(
        self, replicas: Sequence[Replica], people: Sequence[Identity], witness: Witness, chance: random.Random
    ) -> None:
        self._replicas = replicas
        self._people = people
        self._witness = witness
        self._chance = chance

    async def run(self, plan: Plan) -> Turn:
        """One turn from its question to what its viewers have seen."""
        turn = Turn(plan)
        try:
            async with asyncio.timeout(STUCK_S):
                await self._ask(turn)
                if turn.generation_id:
                    await self._follow(turn)
        except TimeoutError:
            turn.late = True
        return turn

    async def _ask(self, turn: Turn) -> None:
        CURRENT.set(turn)
        while True:
            replica = await self._up(turn.plan.number)
            life, person = replica.life, self._chance.choice(self._people)
            turn.user_id = person.user_id
            before = len(turn.admitted)
            try:
                turn.generation_id = (await _asked(replica, person, turn.plan)).generation_id
                return
            except TurnError as error:
                if error.code in FULL:
                    await asyncio.sleep(0.1)
                    continue
                turn.refused = DIED if life.dead.is_set() else error.code
                turn.unknown = turn.refused in UNKNOWN
            except Exception as error:
                turn.refused, turn.unknown = DIED if life.dying else repr(error), True
            if turn.unknown and len(turn.admitted) > before:
                await self._look(turn, turn.admitted[-1])
            return

    async def _look(self, turn: Turn, generation_id: str) -> None:
        """Whoever cannot know looks again after a while: was it stored?"""
        await asyncio.sleep(1.0)
        while True:
            replica = await self._up(self._chance.randrange(9))
            try:
                if await replica.parley.generations.status(generation_id) is not None:
                    turn.generation_id = generation_id
                return
            except AWAY:
                await asyncio.sleep(0.2)

    async def _follow(self, turn: Turn) -> None:
        turn.views = [View() for _ in range(3)]
        steady, hopping, other = turn.views
        home = turn.plan.number
        jobs = [self._watch(turn, steady, home), self._watch(turn, hopping, home, 0.15)]
        jobs.append(self._watch(turn, other, home + 1, after=self._chance.uniform(0, 1)))
        if turn.plan.stopped:
            jobs.append(self._stop(turn, steady))
        await asyncio.gather(*jobs)

    async def _watch(self, turn: Turn, view: View, where: int, hops: float = 0.0, after: float = 0.0) -> None:
        CURRENT.set(None)
        await asyncio.sleep(after)
        while not view.end:
            replica = await self._up(where)
            life = replica.life
            try:
                async with aclosing(life.parley.viewer.follow(turn.generation_id, view.offset)) as updates:
                    async for update in updates:
                        view.take(update)
                        for entry in update.entries:
                            if entry.kind == "sealed":
                                self._witness.seal(turn.generation_id, entry.data["seq"])
                        if update.end is None and self._chance.random() < hops:
                            break
            except AWAY:
                pass
            except Exception as error:
                # The error may come late, when the next life is up already.
                if not life.dying and replica.up.is_set():
                    view.errors.append(repr(error))
            where += 1
            await asyncio.sleep(0.05)

    async def _stop(self, turn: Turn, view: View) -> None:
        CURRENT.set(None)
        await asyncio.sleep(self._chance.uniform(0.1, 1.5))
        while not view.end:
            replica = await self._up(turn.plan.number + 1)
            person = next(one for one in self._people if one.user_id == turn.user_id)
            try:
                return await replica.parley.turns.stop(person, turn.generation_id)
            except (*AWAY, TurnError):
                await asyncio.sleep(0.2)

    async def _up(self, where: int) -> Replica:
        """That replica, or another one that lives."""
        while True:
            count = len(self._replicas)
            for step in range(count):
                replica = self._replicas[(where + step) % count]
                if replica.up.is_set():
                    return replica
            await asyncio.sleep(0.05)


async def _asked(replica: Replica, person: Identity, plan: Plan) -> Started:
    turns = replica.parley.turns
    if plan.source == "chat":
        return await turns.say(person, plan.question)
    return await turns.call(person, [Message("user", plan.question)], built_in=["calculator"])
