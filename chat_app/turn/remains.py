"""What remains of a turn that nobody could finish: its text and its receipt, by whatever its stores still hold."""

from collections.abc import Sequence
from dataclasses import replace

from chat_app.data.ids import now_ms
from chat_app.data.log.entries import clean, decode, encode, text_of
from chat_app.sessions.generations import GenerationRow, Outcome
from chat_app.sessions.steps import Step
from chat_app.turn.receipt import basics, lines, spent_in


def given_up(row: GenerationRow, error: str, steps: Sequence[Step], log: str) -> Outcome:
    """The outcome of a turn that nobody could finish, by its steps and what is left of its log.

    What finished steps were charged stays so; nothing is charged for the last one.
    """
    now = now_ms()
    entries = [replace(entry, text=clean(entry.text)) for entry in decode(log)]  # No store may refuse this end.
    if entries and entries[-1].kind == "sealed":
        entries.pop()
    steps = [step if step.finished else replace(step, status="failed", finished_at=now) for step in steps]
    content, shown = text_of(entries), encode(entries)
    spent = spent_in(steps)
    return Outcome(
        "failed",
        content=content,
        log="" if shown == content else shown,
        log_length=len(shown),
        error=error,
        first_token_at=row.first_token_at,
        finished_at=now,
        **spent,
        receipt=basics(row, "failed", now) | {"attempts": row.attempts, **spent, **lines(steps)},
    )
