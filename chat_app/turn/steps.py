"""From one step of a turn to the next. Each passage is one transaction: the finished step settled, the next one begun.

A finished step is never run again: who takes over begins with the step that was running. What a tool gave lies in its
row before it lies in the log, so a log that lacks it gets it from there.
"""

import asyncio
from dataclasses import replace

import orjson

from chat_app.billing.ledger import NOTHING, OVER_QUOTA, Amount, Ledger
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.log.base import StaleOwner
from chat_app.data.log.entries import Entry, clean
from chat_app.sessions.generations import LOST, Generations
from chat_app.sessions.log_writer import LogWriter
from chat_app.sessions.steps import Step, Steps
from chat_app.tools import BUILT_IN, ToolError
from chat_app.turn.ask import TurnError
from chat_app.turn.charge import account, held, used
from chat_app.turn.commit import commit
from chat_app.turn.job import Job
from chat_app.turn.progress import Further, Progress, first_step
from chat_app.turn.seal import Sealed, pending
from inference.protocol import ToolCall

TOOL_S = 30.0
"""Seconds that a built-in tool may take."""
LONGEST_RESULT = 50_000
"""Characters of a tool's result."""
NO_ROOM = "The answer needs another step, for which this month's tokens do not suffice."


class Passage:
    """Moves turns from step to step."""

    def __init__(self, db: Database, ledger: Ledger, generations: Generations, steps: Steps, further: Further) -> None:
        self._db = db
        self._ledger = ledger
        self._generations = generations
        self._steps = steps
        self._further = further

    async def resume(self, job: Job, writer: LogWriter) -> Progress:
        """Where the turn stands, its log complete up to the running step."""
        row = job.row
        if row.attempts == 1:
            return Progress(job, writer, first_step(row))
        *done, running = await self._steps.of(row.id)
        there = {entry.data["id"] for entry in writer.entries if entry.kind == "tool_result"}
        results = [orjson.loads(step.output) for step in done if step.kind == "tool"]
        await writer.write(*(Entry("tool_result", data=data) for data in results if data["id"] not in there))
        return Progress(job, writer, running, done)

    async def to_tools(self, turn: Progress, finished: Step) -> None:
        """The model asked for tools: settle its step, begin the first call's."""
        row = turn.job.row
        following = turn.next("tool", pending(turn.writer.entries)[0].name)
        settled = self._ledger.settle(account(row), finished.seq, held(row), used(finished))
        await self._move(turn, finished, following, NOTHING, settled)

    async def run_tool(self, turn: Progress) -> tuple[Step, Sealed] | None:
        """Run the call that is due, and begin the next one's step, or the model's that reads the results.

        If there can be no further model step, nothing is begun: the finished step, and how it ends the turn.
        """
        call, *others = pending(turn.writer.entries)
        content, status = await _run(call, turn.step.key)
        data = {"id": call.id, "name": call.name, "content": content, "failed": status == "failed"}
        finished = replace(turn.step, status=status, output=orjson.dumps(data).decode(), finished_at=now_ms())
        result = Entry("tool_result", data=data)
        try:
            if others:
                await self._move(turn, finished, turn.next("tool", others[0].name), NOTHING, [])
            else:
                await self._to_model(turn, finished, result)
        except TurnError as error:
            await turn.writer.write(result)
            return finished, Sealed(finished.seq, "", "failed", error=error.message, code=error.code)
        await turn.writer.write(result)
        return None

    async def _to_model(self, turn: Progress, finished: Step, result: Entry) -> None:
        job, following = turn.job, turn.next("model")
        amount = job.worst_case(await self._further(job, turn.earlier(result)))
        money = self._ledger.hold(account(job.row), following.seq, amount, job.monthly_tokens)
        try:
            await self._move(turn, finished, following, amount, money)
        except Unmet as error:
            if error.name != OVER_QUOTA:
                raise
            raise TurnError("quota_exceeded", NO_ROOM, 429) from error

    async def _move(
        self, turn: Progress, finished: Step, following: Step, amount: Amount, money: list[Statement]
    ) -> None:
        row = turn.job.row

        async def took_place() -> bool:
            return any(step.seq == following.seq for step in await self._steps.of(row.id))

        try:
            await commit(
                self._db,
                [
                    self._generations.advance(row, following.seq, amount.tokens, amount.micro),
                    self._steps.finish(row, finished),
                    *money,
                    self._steps.begin(row, following),
                ],
                took_place,
            )
        except Unmet as error:
            if error.name == LOST:
                raise StaleOwner from error
            raise
        row.step, row.held_tokens, row.held_micro = following.seq, amount.tokens, amount.micro
        turn.move(finished, following)


async def _run(call: ToolCall, key: str) -> tuple[str, str]:
    """What the tool gives, or why it cannot, for the model to read; and the step's status."""
    try:
        async with asyncio.timeout(TOOL_S):
            return clean(await BUILT_IN[call.name].run(call.arguments, key))[:LONGEST_RESULT], "done"
    except ToolError as error:
        return f"Error: {error}", "failed"
    except TimeoutError:
        return f"Error: {call.name} took longer than {TOOL_S:.0f} s", "failed"
