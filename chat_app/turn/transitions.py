"""From one step of a turn to the next, each in one transaction: the finished step settled, the next one begun.

A finished step is never run again: who takes over begins with the step that was running. What a tool gives is written
into the log before anything else is asked, and with its end into its row, so a log that lost it gets it from there.
"""

from dataclasses import replace

import orjson

from chat_app.billing.ledger import NOTHING, OVER_QUOTA, Amount, Ledger
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.entries import Entry
from chat_app.sessions.generations import Generations
from chat_app.sessions.log_writer import LogWriter
from chat_app.sessions.steps import Step, Steps
from chat_app.turn.ask import TurnError
from chat_app.turn.bounds import Bounds
from chat_app.turn.charge import account, held, used
from chat_app.turn.commit import commit
from chat_app.turn.job import Job, Unreadable
from chat_app.turn.progress import Progress, first_step
from chat_app.turn.seal import Sealed, result_in, sealed_in, unanswered
from chat_app.turn.tool import result_of

NO_ROOM = "The answer needs another step, for which this month's tokens do not suffice."


class Transitions:
    """Moves turns from step to step."""

    def __init__(
        self, db: Database, log: GenerationLog, ledger: Ledger, generations: Generations, steps: Steps, bounds: Bounds
    ) -> None:
        self._db = db
        self._log = log
        self._ledger = ledger
        self._generations = generations
        self._steps = steps
        self._bounds = bounds

    async def resume(self, job: Job, writer: LogWriter) -> Progress:
        """Where the turn stands, its log complete up to the running step. Raises `Unreadable` for a log that lost what
        the finished steps have written: nobody can go on from there."""
        row = job.row
        if row.fresh:
            return Progress(job, writer, first_step(row))
        *done, running = await self._steps.of(row.id)
        there = {entry.data["id"] for entry in writer.entries if entry.kind == "tool_result"}
        results = [orjson.loads(step.output) for step in done if step.kind == "tool"]
        called = {entry.data["id"] for entry in writer.entries if entry.kind == "tool_call"}
        due = running.kind == "tool" and result_in(writer.entries, running.seq) is None
        if any(data["id"] not in called for data in results) or (due and not unanswered(writer.entries)):
            raise Unreadable("the log lacks calls whose steps are there")
        await writer.write(*(Entry("tool_result", data=data) for data in results if data["id"] not in there))
        return Progress(job, writer, running, done)

    async def to_tools(self, turn: Progress, finished: Step) -> None:
        """The model asked for tools: settle its step, begin the first call's."""
        row = turn.job.row
        following = turn.next("tool", unanswered(turn.writer.entries)[0].name)
        settled = self._ledger.settle(account(row), finished.seq, held(row), used(finished))
        await self._move(turn, finished, following, NOTHING, settled)

    async def run_tool(self, turn: Progress) -> tuple[Step, Sealed] | None:
        """Run the call that is due, and begin the next one's step, or the model's that reads the results.

        If somebody has asked for a stop before the call, or there can be no further model step, nothing is begun: then
        the finished step, and how it ends the turn, which is sealed. A call that has its result is not made again.
        """
        seq, ending = turn.step.seq, None
        result = result_in(turn.writer.entries, seq)
        if result is None:
            if self._log.stop_requested(turn.job.row.id).is_set():
                stopped = replace(turn.step, status="stopped", finished_at=now_ms())
                return stopped, Sealed(seq, "", "stopped")
            call = unanswered(turn.writer.entries)[0]
            content, status = await result_of(call, turn.job, turn.step.key)
            data = {"id": call.id, "name": call.name, "content": content, "failed": status == "failed", "step": seq}
            result = Entry("tool_result", data=data)
            await turn.writer.write(result)
        finished = replace(
            turn.step,
            status="failed" if result.data["failed"] else "done",
            output=orjson.dumps(result.data).decode(),
            finished_at=now_ms(),
        )
        if (sealed := sealed_in(turn.writer.entries, seq)) is not None:  # Its owner died before it was settled.
            return finished, sealed
        try:
            if others := unanswered(turn.writer.entries):
                await self._move(turn, finished, turn.next("tool", others[0].name), NOTHING, [])
            elif not await self._to_model(turn, finished):
                ending = _tool_seal(finished, "length")
        except TurnError as error:
            ending = _tool_seal(finished, "failed", error.message, error.code)
        if ending is None:
            return None
        await turn.writer.write(ending.entry())
        return finished, ending

    async def _to_model(self, turn: Progress, finished: Step) -> bool:
        """Begin the model's next step; False if the answer has all of its tokens already. Raises `TurnError`."""
        following, job = turn.next("model"), await self._bounds.following(turn)
        if job is None:
            return False

        async def move(job: Job) -> None:
            money = self._ledger.hold(account(job.row), following.seq, job.worst_case, job.monthly_tokens)
            await self._move(turn, finished, following, job.worst_case, money)

        try:
            await self._bounds.hold(job, move)
            return True
        except Unmet as error:
            if error.name != OVER_QUOTA:
                raise
            raise TurnError("quota_exceeded", NO_ROOM, 429) from error

    async def _move(
        self, turn: Progress, finished: Step, following: Step, amount: Amount, money: list[Statement]
    ) -> None:
        row = turn.job.row

        async def was_committed() -> bool:
            return await self._generations.step_under(row) == following.seq

        await commit(
            self._db,
            [
                self._generations.advance(row, following.seq, amount.tokens, amount.micro),
                self._steps.finish(row, finished),
                *money,
                self._steps.begin(row, following),
            ],
            was_committed,
        )
        row.step, row.held_tokens, row.held_micro = following.seq, amount.tokens, amount.micro
        turn.move(finished, following)


def _tool_seal(tool: Step, finish: str, error: str = "", code: str = "") -> Sealed:
    """The end of a turn behind this tool's step."""
    return Sealed(tool.seq, "", finish, error=error, code=code, began_at=tool.started_at, ended_at=now_ms())
