"""The bounds of a model step: the prompt that it reads, and how much it may write to it.

`max_tokens` bounds the whole answer, so a step has what earlier ones left of it; the month may have room for less.
Both are the same for whoever takes the step over: they follow from the steps that are done and from what is held.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import TypeVar

from chat_app.billing.ledger import OVER_QUOTA, Ledger
from chat_app.data.db.base import Unmet
from chat_app.turn.charge import held
from chat_app.turn.engine import as_turn_error
from chat_app.turn.job import Job
from chat_app.turn.next_prompt import NextPrompts
from chat_app.turn.prepare import Preparation
from chat_app.turn.progress import Progress
from inference.protocol import EngineError

T = TypeVar("T")
LEAST_ANSWER = 16
"""Tokens that an answer must at least have room for, if it may have so many, or its step is not worth beginning."""


class Bounds:
    """Makes jobs of one step: a turn's job with the step's own prompt and `max_tokens`."""

    def __init__(self, ledger: Ledger, preparation: Preparation, prompts: NextPrompts) -> None:
        self._ledger = ledger
        self._preparation = preparation
        self._prompts = prompts

    async def running(self, turn: Progress) -> Job:
        """The job of the running model step, whose worst case is what it holds. Raises `TurnError`."""
        job = _rest(turn)
        job = replace(job, prompt=await self._prompts.of(job, turn.earlier()))
        most = held(job.row).tokens
        if job.worst_case.tokens <= most:
            return job
        exact = await self._counted(job, inf)  # Its month was nearly used up when it was held.
        room = most - exact.prompt.tokens
        return exact.shortened(max(1, min(job.sampling.max_tokens, room)))

    async def following(self, turn: Progress) -> Job | None:
        """The job of the model step behind the running tool's; None if the answer has all of its tokens already.
        Raises `TurnError`."""
        job = _rest(turn)
        if job.sampling.max_tokens <= 0:
            return None
        return replace(job, prompt=await self._prompts.of(job, turn.earlier()))

    async def hold(self, job: Job, commit: Callable[[Job], Awaitable[T]]) -> T:
        """Commit the worst case of a step's job. If the month has no room for it, once more: counted by the engine,
        and with the shorter answer for which there is room.

        Raises what `commit` does, so `Unmet` as OVER_QUOTA for a month without room, and `TurnError`.
        """
        try:
            return await commit(job)
        except Unmet as error:
            if error.name != OVER_QUOTA:
                raise
            row, most = job.row, job.sampling.max_tokens
            job = await self._counted(job)
            left = (await self._ledger.allowance(row.user_id, job.monthly_tokens, row.period)).left or 0
            room = left - job.prompt.tokens
            if room < min(LEAST_ANSWER, most):
                raise
        return await commit(job.shortened(min(most, room)))

    async def _counted(self, job: Job, patience: float | None = None) -> Job:
        try:
            return replace(job, prompt=await self._preparation.counted(job.prompt, job.row.model, patience))
        except EngineError as error:
            raise as_turn_error(error) from error


def _rest(turn: Progress) -> Job:
    """The turn's job, with as much of its answer as the steps that are done have left."""
    return turn.job.shortened(turn.job.sampling.max_tokens - sum(step.completion_tokens for step in turn.done))
