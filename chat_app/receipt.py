"""The receipt: what a turn turned out to be, from what its last owner saw.

One place works out tokens, cost, times and the final status, so that the row, the ledger, the event and the page
can never tell different stories.
"""

from dataclasses import dataclass, field

from chat_app.billing.ledger import cost_micro
from chat_app.data.ids import now_ms
from chat_app.data.tables.billing import Price
from chat_app.prompts.prompt import Prompt
from chat_app.safety.verdict import Verdict
from chat_app.sessions.generations import Job, Outcome
from chat_app.telemetry.events import TurnEvent
from inference.protocol import Usage


@dataclass(slots=True)
class Progress:
    """What this owner has seen of its answer. `tokens` counts what earlier owners delivered too."""

    started_at: int = field(default_factory=now_ms)
    tokens: int = 0
    usage: Usage | None = None
    finish: str = ""
    blocked: Verdict | None = None
    error: str = ""
    code: str = ""
    """The kind of `error`, as a `TurnError` names it."""
    taken_over: bool = False

    @property
    def status(self) -> str:
        """done, stopped, refused or failed."""
        if self.blocked is not None:
            return "refused"
        if self.error:
            return "failed"
        return "stopped" if self.finish == "stopped" else "done"


def outcome(
    job: Job, prompt: Prompt, progress: Progress, text: str, first_at: int | None, price: Price | None
) -> Outcome:
    """How the job ended. A turn that delivered nothing costs nothing."""
    now = now_ms()
    usage = progress.usage
    completion = usage.completion_tokens if usage is not None and not progress.taken_over else progress.tokens
    charged = bool(text) or progress.status == "done"
    prompt_tokens = prompt.window.tokens if charged else 0
    completion = completion if charged else 0
    cost = cost_micro(price, prompt_tokens, completion)
    flow_s = max(1, now - (first_at or now)) / 1000
    # Times of an answer that changed hands would blame the engine for the crash: left out.
    timed = first_at is not None and not progress.taken_over
    return Outcome(
        status=progress.status,
        content=text,
        completion_tokens=completion,
        prompt_tokens=prompt_tokens,
        cached_tokens=usage.cached_tokens if usage and not progress.taken_over else 0,
        cost_micro=cost,
        error=progress.blocked.message if progress.blocked else progress.error,
        first_token_at=first_at,
        finished_at=now,
        receipt={
            "model": job.model,
            "route": prompt.route,
            "plan": job.plan_id,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion,
            "cached_tokens": usage.cached_tokens if usage and not progress.taken_over else 0,
            "queue_ms": progress.started_at - job.created_at,
            "ttft_ms": first_at - job.created_at if timed and first_at else None,
            "total_ms": now - job.created_at,
            "tokens_per_s": round(completion / flow_s, 1) if timed and completion > 1 else None,
            "cost_micro": cost,
            "kept_messages": prompt.window.kept,
            "dropped_messages": prompt.window.dropped,
            "attempts": job.attempts,
            "finish": progress.finish if progress.status in ("done", "stopped") else progress.status,
            **({"code": progress.code} if progress.code else {}),
        },
    )


def refusal(job: Job, verdict: Verdict) -> Outcome:
    """The outcome of a turn that the input check refused before anything was sent."""
    now = now_ms()
    receipt = {"model": job.model, "plan": job.plan_id, "finish": "refused", "total_ms": now - job.created_at}
    return Outcome("refused", error=verdict.message, finished_at=now, receipt=receipt)


def event(job: Job, ended: Outcome, verdict: Verdict | None) -> TurnEvent:
    """The content-free event of an ended turn, from the same figures as its receipt."""
    receipt = ended.receipt
    return TurnEvent(
        generation_id=job.id,
        at_ms=ended.finished_at,
        tenant=job.tenant_id,
        user_id=job.user_id,
        plan=job.plan_id,
        source=job.source,
        model=job.model,
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
        attempts=job.attempts,
        refused_stage=verdict.stage if verdict else "",
        refused_category=verdict.category if verdict else "",
        refused_rule=verdict.rule if verdict else "",
    )
