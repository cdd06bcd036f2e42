"""The receipt: what a turn turned out to be, from the steps that it took.

One place works out tokens, cost, times and the final status, so that the row, the ledger, the event and the page can
never say different things.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

from chat_app.data.ids import now_ms
from chat_app.data.log.entries import encode
from chat_app.safety.verdict import Verdict
from chat_app.sessions.generations import GenerationRow, Outcome
from chat_app.sessions.log_writer import LogWriter
from chat_app.sessions.steps import Step
from chat_app.telemetry.events import TurnEvent
from chat_app.turn.job import Job
from chat_app.turn.seal import Sealed, seals

AT_ONCE_MS = 50
"""A shorter flow is one piece of gathered text and its end: how fast it was written, nobody saw."""


def outcome(job: Job, steps: Sequence[Step], sealed: Sealed, writer: LogWriter) -> Outcome:
    """How the turn ended, over all of its steps; `sealed` is how the last one did, in the log if a model ran it."""
    row, now = job.row, now_ms()
    ends = seals(writer.entries)
    first_at = writer.first_token_at or next((end.first_at for end in ends if end.first_at is not None), None)
    spent = spent_in(steps)
    # Times of an answer that changed hands would blame the engine for the crash: left out.
    timed = row.fresh
    seal = encode([sealed.entry()])
    shown = writer.log.removesuffix(seal)
    plain = shown == writer.text
    return Outcome(
        status=sealed.status,
        content=writer.text,
        log="" if plain else shown,
        log_length=len(shown),
        error=sealed.error,
        first_token_at=first_at,
        finished_at=now,
        **spent,
        receipt=basics(row, sealed.finish, now)
        | {
            "route": job.route,
            **spent,
            "queue_ms": elapsed_ms(row.created_at, ends[0].began_at) if timed and ends else None,
            "ttft_ms": elapsed_ms(row.created_at, first_at) if timed and first_at else None,
            "tokens_per_s": _tokens_per_s(ends) if timed else None,
            "kept_messages": job.prompt.kept,
            "dropped_messages": job.prompt.dropped,
            "attempts": row.attempts,
            "screen_ms": round(sum(end.screen_us for end in ends) / 1000, 2),
            **({"estimated": True} if any(end.estimated for end in ends) else {}),
            **lines(steps),
            **({"code": sealed.code} if sealed.code else {}),
        },
    )


def basics(row: GenerationRow, finish: str, finished_at: int) -> dict[str, Any]:
    """What the receipt of every turn says, however it ended."""
    total_ms = elapsed_ms(row.created_at, finished_at)
    return {"model": row.model, "plan": row.plan_id, "finish": finish, "total_ms": total_ms}


def _tokens_per_s(ends: Sequence[Sealed]) -> float | None:
    """Over the time in which model steps were writing; None for less than two tokens, if the clock was put back, or if
    all came at once."""
    tokens = sum(end.completion_tokens for end in ends)
    flows_ms = [end.ended_at - end.first_at for end in ends if end.first_at is not None]
    if tokens < 2 or min(flows_ms, default=0) < 0 or sum(flows_ms) < AT_ONCE_MS:
        return None
    return round(tokens * 1000 / sum(flows_ms), 1)


class Spent(TypedDict):
    """Tokens and cost of a turn."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micro: int


def spent_in(steps: Sequence[Step]) -> Spent:
    """What all of these steps took."""
    return {
        "prompt_tokens": sum(step.prompt_tokens for step in steps),
        "completion_tokens": sum(step.completion_tokens for step in steps),
        "cached_tokens": sum(step.cached_tokens for step in steps),
        "cost_micro": sum(step.cost_micro for step in steps),
    }


def lines(steps: Sequence[Step]) -> dict[str, Any]:
    """The steps as a receipt has them: a line for each, where there are several."""
    return {"steps": [_line(step) for step in steps]} if len(steps) > 1 else {}


def _line(step: Step) -> dict[str, Any]:
    named = {"model": step.model} if step.kind == "model" else {"name": step.name}
    tokens = {"prompt_tokens": step.prompt_tokens, "completion_tokens": step.completion_tokens}
    spent = elapsed_ms(step.started_at, step.finished_at or step.started_at)
    return {"kind": step.kind, **named, "status": step.status, **(tokens if step.kind == "model" else {}), "ms": spent}


def elapsed_ms(since: int, until: int) -> int:
    """Milliseconds between two moments; 0 if the clock was put back between them."""
    return max(0, until - since)


def refusal(row: GenerationRow, verdict: Verdict) -> Outcome:
    """The outcome of a turn that the input check refused before anything was sent."""
    now = now_ms()
    return Outcome("refused", error=verdict.message, finished_at=now, receipt=basics(row, "refused", now))


def event(row: GenerationRow, ended: Outcome, verdict: Verdict | None) -> TurnEvent:
    """The content-free event of an ended turn, from the same figures as its receipt."""
    receipt = ended.receipt
    return TurnEvent(
        generation_id=row.id,
        at_ms=ended.finished_at,
        tenant=row.tenant_id,
        user_id=row.user_id,
        plan=row.plan_id,
        source=row.source,
        model=str(receipt["model"]),
        status=ended.status,
        finish=str(receipt["finish"]),
        route=str(receipt.get("route", "")),
        prompt_tokens=ended.prompt_tokens,
        completion_tokens=ended.completion_tokens,
        cached_tokens=ended.cached_tokens,
        cost_micro=ended.cost_micro,
        queue_ms=receipt.get("queue_ms"),
        ttft_ms=receipt.get("ttft_ms"),
        total_ms=receipt["total_ms"],
        tokens_per_s=receipt.get("tokens_per_s"),
        attempts=row.attempts,
        refused_stage=verdict.stage if verdict else "",
        refused_category=verdict.category if verdict else "",
        refused_rule=verdict.rule if verdict else "",
    )
