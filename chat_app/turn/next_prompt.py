"""The prompts of a turn's further model steps."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from chat_app.prompts.prompt import Prompt, followed_by
from chat_app.prompts.window import TooLong
from chat_app.turn.ask import too_long
from chat_app.turn.cards import ModelCards, first_able
from chat_app.turn.engine import as_turn_error
from chat_app.turn.job import Candidate, Job
from inference.protocol import EngineError, Message


class NextPrompts:
    """Makes prompts out of jobs and what their steps added."""

    def __init__(self, cards: ModelCards) -> None:
        self._cards = cards

    async def of(self, job: Job, earlier: Sequence[Message]) -> Prompt:
        """The prompt of a further model step: the turn's, and behind it what `earlier` steps added. Raises
        `TurnError`."""
        if not earlier:
            prompt, counted_by = job.prompt, job.candidates[0].model
        else:
            try:
                prompt, counted_by = await first_able(
                    # Nobody waits at a form here: the last one is waited for as long as an answer is.
                    job.remaining,
                    lambda one, patience: self._followed(job, earlier, one, inf if patience is None else patience),
                )
            except EngineError as error:
                raise as_turn_error(error) from error
        return prompt if counted_by == job.row.model else replace(prompt, counted=False)

    async def _followed(
        self, job: Job, earlier: Sequence[Message], by: Candidate, patience: float
    ) -> tuple[Prompt, str]:
        try:
            prompt = await followed_by(
                job.prompt,
                earlier,
                context=by.context,
                answer=job.sampling.max_tokens,
                count=self._cards.counter(by.model, patience),
                measure=await self._cards.measure(by.model, by.context, patience),
            )
        except TooLong as error:
            raise too_long(error, by.model) from error
        return prompt, by.model
