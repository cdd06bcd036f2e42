"""Where a turn stands: its job, its log, the steps that are done and the one that runs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from chat_app.data.ids import now_ms
from chat_app.data.log.entries import Entry
from chat_app.prompts.prompt import Prompt
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.log_writer import LogWriter
from chat_app.sessions.steps import Step
from chat_app.turn.job import Job
from chat_app.turn.seal import Sealed, own, pending, rounds
from inference.protocol import Message

Further = Callable[[Job, Sequence[Message]], Awaitable[Prompt]]
"""Makes the prompt of a model step out of the job and what earlier steps added. Raises `TurnError`."""


def first_step(row: GenerationRow) -> Step:
    """The step that every turn begins with."""
    return Step(row.id, 1, "model", model=row.model, started_at=row.created_at)


@dataclass(slots=True)
class Progress:
    """One turn in the hands of its owner."""

    job: Job
    writer: LogWriter
    step: Step
    done: list[Step] = field(default_factory=list)

    def earlier(self, *more: Entry) -> list[Message]:
        """What the steps before the running one added to the prompt; with `more`, before the next one."""
        entries = self.writer.entries
        return rounds([*entries, *more] if more else entries[: len(entries) - len(own(entries))])

    def goes_on(self, sealed: Sealed, most_steps: int) -> bool:
        """Whether the model asked for tools of which Parley runs every one. A caller's own tool ends the turn."""
        calls = pending(self.writer.entries)
        mine = calls and all(call.name in self.job.built_in for call in calls)
        return sealed.finish == "tool_calls" and bool(mine) and len(self.done) + 2 < most_steps

    def ended(self, sealed: Sealed) -> Step:
        """The running model step as its seal has it, with its price."""
        price = self.job.candidate(sealed.model)
        return replace(
            self.step,
            status=sealed.status,
            model=sealed.model,
            prompt_tokens=sealed.prompt_tokens,
            completion_tokens=sealed.completion_tokens,
            cached_tokens=sealed.cached_tokens,
            prompt_micro=price.prompt_micro,
            completion_micro=price.completion_micro,
            cost_micro=price.cost(sealed.prompt_tokens, sealed.completion_tokens),
            finished_at=sealed.ended_at,
        )

    def next(self, kind: str, name: str = "") -> Step:
        """The step behind this one, not begun yet. A tool's `key` is the same after a takeover."""
        row, seq = self.job.row, self.step.seq + 1
        return Step(
            row.id,
            seq,
            kind,
            model=row.model if kind == "model" else "",
            name=name,
            key=f"{row.id}:{seq}" if kind == "tool" else "",
            input=len(self.writer.log),
            started_at=now_ms(),
        )

    def move(self, finished: Step, following: Step) -> None:
        """One step is done, the next one runs."""
        self.done.append(finished)
        self.step = following
