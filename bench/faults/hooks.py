"""Look-outs at the awaits of a turn, put around the parts of one Parley. They change nothing of what the parts do."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bench.faults.witness import CURRENT, Place, Witness, now
from chat_app.data.db.base import Row, Statement
from chat_app.data.log.entries import decode
from chat_app.tools import BUILT_IN
from chat_app.tools.calculator import Calculator
from chat_app.wiring import Parley
from inference.protocol import Chunk, Request

Reach = Callable[[str], Awaitable[None]]
SEAL = "\x1ez"
HERE: ContextVar[Reach | None] = ContextVar("here", default=None)
"""How the replica that runs a turn is told of a moment."""
_calculate = Calculator.run


@dataclass(frozen=True, slots=True)
class _Marked(Statement):
    """A statement by which a batch is known, whatever its SQL says."""

    moment: str = ""


def hooked(parley: Parley, witness: Witness, reach: Reach) -> None:
    """Call `reach` with the moment's name (`schedule.MOMENTS`) wherever a turn comes to one, and keep the record."""
    _work(parley, witness, reach)
    _admission(parley, witness, reach)
    _statements(parley)
    _database(parley, reach)
    _log(parley, witness, reach)
    _engine(parley, witness, reach)


async def _run(self: Calculator, arguments: str, key: str) -> str:
    if (reach := HERE.get()) is not None:
        await reach("tool")
    return await _calculate(self, arguments, key)


def watch_tools() -> None:
    """The tools are the same for all replicas: once for the process."""
    assert "calculator" in BUILT_IN
    Calculator.run = _run  # type: ignore[method-assign]


def _work(parley: Parley, witness: Witness, reach: Reach) -> None:
    """A turn keeps its fault when another replica takes it over, or another life of the same one."""
    work = parley.worker.work

    async def working(row: Any, job: Any = None) -> None:
        CURRENT.set(witness.turns.get(row.id))
        HERE.set(reach)
        await work(row, job)

    parley.worker.work = working  # type: ignore[method-assign]


def _admission(parley: Parley, witness: Witness, reach: Reach) -> None:
    admission: Any = parley.admission
    enter, leave, job = admission.enter, admission.leave, parley.turns._preparation.job

    async def entering(row: Any, terms: Any) -> None:
        await reach("admit")
        await enter(row, terms)
        witness.places.append(Place(row.id, row.user_id, now()))
        if (turn := CURRENT.get()) is not None:
            turn.admitted.append(row.id)
            witness.turns[row.id] = turn

    async def leaving(row: Any) -> None:
        await reach("leave")
        await leave(row)

    async def preparing(*args: Any) -> Any:
        await reach("prepare")
        return await job(*args)

    admission.enter, admission.leave = entering, leaving
    parley.turns._preparation.job = preparing  # type: ignore[method-assign]


def _statements(parley: Parley) -> None:
    """What the turn puts into its batches says which batch it is: the row's creation, its next step, its end."""
    generations: Any = parley.generations

    def marked(statement: Statement, moment: str) -> Statement:
        return _Marked(statement.sql, statement.params, statement.must, moment)

    create, advance, finish = generations.create, generations.advance, generations.finish

    def creating(row: Any) -> Statement:
        return marked(create(row), "hold")

    def advancing(row: Any, step: int, *held: int) -> Statement:
        return marked(advance(row, step, *held), "further" if step % 2 else "passage")

    def finishing(row: Any, outcome: Any) -> list[Statement]:
        first, *others = finish(row, outcome)
        return [marked(first, "settle"), *others]

    generations.create, generations.advance, generations.finish = creating, advancing, finishing


def _database(parley: Parley, reach: Reach) -> None:
    batch = parley.db.batch
    behind = {"hold": "held", "settle": "settled"}

    async def batching(*statements: Statement) -> list[list[Row]]:
        moment = _moment(statements)
        if moment is None:
            return await batch(*statements)
        await reach(moment)
        rows = await batch(*statements)
        if moment in behind:
            await reach(behind[moment])
        return rows

    parley.db.batch = batching  # type: ignore[method-assign]


def _moment(statements: Sequence[Statement]) -> str | None:
    return next((statement.moment for statement in statements if isinstance(statement, _Marked)), None)


def _log(parley: Parley, witness: Witness, reach: Reach) -> None:
    log: Any = parley.log
    append, end = log.append, log.end

    async def appending(generation: str, fence: int, offset: int, text: str) -> None:
        if SEAL not in text:
            await reach("append")
            return await append(generation, fence, offset, text)
        await reach("seal")
        await append(generation, fence, offset, text)
        for entry in decode(text):
            if entry.kind == "sealed":
                witness.seal(generation, entry.data["seq"])
        await reach("sealed")

    async def ending(generation: str, fence: int, status: str) -> None:
        await reach("end")
        await end(generation, fence, status)

    log.append, log.end = appending, ending


def _engine(parley: Parley, witness: Witness, reach: Reach) -> None:
    client: Any = parley.client
    stream = client.stream

    async def streaming(request: Request) -> AsyncGenerator[Chunk, None]:
        await reach("ask")
        asked = witness.request(request)
        async with aclosing(stream(request)) as chunks:
            async for chunk in chunks:
                asked.sent += chunk.text
                yield chunk

    client.stream = streaming
