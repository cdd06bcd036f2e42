"""Where a turn stands: its job, its log, the steps that are done and the one that runs."""

from dataclasses import dataclass, field, replace

from chat_app.data.ids import now_ms
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.log_writer import LogWriter
from chat_app.sessions.steps import Step
from chat_app.turn.job import Job
from chat_app.turn.seal import Sealed, entries_of_step, tool_messages, unanswered
from inference.protocol import Message


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

    def earlier(self) -> list[Message]:
        """What is in the log behind the prompt up to the running model step, or for one behind the running tool's."""
        entries = self.writer.entries
        return tool_messages(entries[: len(entries) - len(entries_of_step(entries))])

    def goes_on(self, sealed: Sealed) -> bool:
        """Whether the model asked for tools that get their results within the turn. A caller's own tool ends it."""
        return sealed.finish == "tool_calls" and bool(unanswered(self.writer.entries))

    @property
    def planned(self) -> int:
        """Steps of the turn so far, those of the calls that are due, and the model's that reads their results."""
        return len(self.done) + 1 + len(unanswered(self.writer.entries)) + 1

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
