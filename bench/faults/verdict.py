"""The judgement on one column: what its viewers saw, against what engines sent, against what the database says."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from bench.faults.schedule import Plan
from bench.faults.witness import DIED, Asked, Place, Turn, Witness
from chat_app.data.log.entries import Entry, text_of
from chat_app.sessions.generations import ENDED
from chat_app.sessions.steps import Step
from chat_app.sessions.viewer import Gone
from chat_app.turn.seal import BETWEEN
from chat_app.wiring import Parley
from inference.engines.script import PIECES
from inference.engines.scripted import ScriptedEngine, scripted_text

WRONGS = (
    "tokens_lost",
    "tokens_doubled",
    "spliced",
    "charged_wrong",
    "stuck",
    "over_limit",
    "asked_twice",
    "unexpected_errors",
)
UNKNOWN = ("storage_unknown", DIED)
"""Refusals that leave open what became of the turn."""
HONEST = ("storage_unavailable", "engine_unavailable", *UNKNOWN)
"""Refusals that are right while a store or the engine is away, or a process has died."""
STILL_ACTIVE = f"SELECT id, status, attempts FROM generation WHERE status NOT IN {tuple(sorted(ENDED))}"
SETTLED_S = 90.0
"""How long jobs that nobody watches may take to end after the last turn."""


@dataclass(slots=True)
class Verdict:
    """Counts of everything that must not be, and what was found, in words."""

    turns: int = 0
    ok: int = 0
    refused: int = 0
    taken_over: int = 0
    planned: int = 0
    """Faults, one for each turn; of which so many really came about, by party and fault."""
    fired: Counter[str] = field(default_factory=Counter)
    never: list[str] = field(default_factory=list)
    """Planned, for one turn or several, and none of them had it."""
    wrongs: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def wrong(self, kind: str, what: str, count: int = 1) -> None:
        if count:
            self.wrongs[kind] += count
            self.found.append(f"{kind} {count}: {what}")


async def judged(parley: Parley, turns: Sequence[Turn], witness: Witness, limit: int) -> Verdict:
    """Judge all turns of a column through `parley`, which has no proxy before its stores and works on nothing."""
    verdict = Verdict()
    await _ended(parley, verdict)
    for turn in turns:
        before = len(verdict.found)
        good = await _judge(parley, turn, witness, verdict)
        verdict.turns += 1
        verdict.ok += good and len(verdict.found) == before
        verdict.refused += turn.refused in HONEST and not turn.generation_id
    _faults(turns, verdict)
    await _sums(parley, verdict)
    await _places(parley, witness.places, limit, verdict)
    return verdict


def _faults(turns: Sequence[Turn], verdict: Verdict) -> None:
    verdict.planned = len(turns)
    verdict.fired.update(f"{turn.plan.party} {turn.plan.fault}" for turn in turns if turn.fired)
    never = {turn.plan.pair for turn in turns} - {turn.plan.pair for turn in turns if turn.fired}
    verdict.never = [f"{party} {fault} at {moment}" for moment, party, fault in sorted(never)]


async def _ended(parley: Parley, verdict: Verdict) -> None:
    deadline = asyncio.get_running_loop().time() + SETTLED_S
    while (rows := await parley.db.query(STILL_ACTIVE)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    for row in rows:
        verdict.wrong("stuck", f"generation {dict(row)} never ended")


async def _judge(parley: Parley, turn: Turn, witness: Witness, verdict: Verdict) -> bool:
    """Whether the turn went as it should, as far as its status says; what else is wrong goes into the verdict."""
    plan, good = turn.plan, True
    if turn.late:
        verdict.wrong("stuck", f"{plan}: no end after the longest patience, {[view.offset for view in turn.views]}")
    for generation_id in dict.fromkeys([*turn.admitted, *filter(None, [turn.generation_id])]):
        rows = await parley.db.query("SELECT * FROM generation WHERE id = $1", generation_id)
        if not rows:
            if generation_id == turn.generation_id:
                verdict.wrong("tokens_lost", f"{plan}: the answer that was begun is not there")
            continue
        row = rows[0]
        verdict.taken_over += row["attempts"] > 1
        if turn.refused and not turn.unknown:
            verdict.wrong("charged_wrong", f"{plan}: refused ({turn.refused}), but it was begun: {row['status']}")
        if row["status"] in ENDED:
            good = await _answer(parley, turn, row, witness, verdict) and good
    if turn.refused and turn.refused not in HONEST:
        verdict.wrong("unexpected_errors", f"{plan}: refused with {turn.refused}")
    for error, count in Counter(error for view in turn.views for error in view.errors).items():
        verdict.wrong("unexpected_errors", f"{plan}: a viewer got {error}", count)
    return good


async def _answer(parley: Parley, turn: Turn, row: Any, witness: Witness, verdict: Verdict) -> bool:
    plan, generation_id = turn.plan, str(row["id"])
    try:
        truth = [entry for entry in await parley.viewer.entries(generation_id) if entry.kind != "sealed"]
    except Gone as error:
        verdict.wrong("tokens_lost", f"{plan}: {error}")
        return False
    asked = witness.asked.get(generation_id, [])
    steps = [step for step in await parley.steps.of(generation_id) if step.kind == "model"]
    texts = _texts(truth)
    for number, text in enumerate(texts):
        mine = [one for one in asked if one.number == number]
        step = steps[number] if number < len(steps) else None
        whole = step is not None and step.status == "done"
        _text(plan, number, text, mine, whole, verdict)
        if step is not None:
            await _charge(parley, plan, step, text, mine, truth, verdict)
    for number in range(len(texts)):
        stored_at = witness.sealed.get((generation_id, number))
        again = [one for one in asked if one.number == number and stored_at is not None and one.at_ms > stored_at]
        verdict.wrong("asked_twice", f"{plan}: model step {number + 1}", len(again))
    if generation_id == turn.generation_id:
        for view in turn.views:
            _view(plan, view, truth, str(row["status"]), verdict)
    if row["held_tokens"]:
        verdict.wrong("charged_wrong", f"{plan}: ended and still holds {row['held_tokens']}")
    expected = {"done", "stopped"} if plan.stopped else {"done"}
    if row["status"] not in expected:
        verdict.found.append(f"{plan}: ended {row['status']} after {row['attempts']} attempts: {row['error']}")
        return False
    return True


def _texts(truth: Sequence[Entry]) -> list[str]:
    """What each model step said."""
    texts = [""]
    for entry in truth:
        if entry.kind == "tool_result":
            texts.append("")
        elif entry.kind == "text":
            texts[-1] += entry.text
    return [text.removeprefix(BETWEEN) if number else text for number, text in enumerate(texts)]


def _text(plan: Plan, number: int, text: str, asked: Sequence[Asked], whole: bool, verdict: Verdict) -> None:
    directive = plan.directives[number]
    if not directive["drift"]:
        expected = scripted_text(directive)
        lost, doubled = _differences(expected, text) if whole else (0, 0 if expected.startswith(text) else 1)
        verdict.wrong("tokens_lost", f"{plan}: step {number + 1} of the answer", lost)
        verdict.wrong("tokens_doubled", f"{plan}: step {number + 1} of the answer", doubled)
    elif whole:
        missing = directive["tokens"] - len(PIECES.findall(text))
        verdict.wrong("tokens_lost", f"{plan}: step {number + 1} of the drifting answer", max(0, missing))
        verdict.wrong("tokens_doubled", f"{plan}: step {number + 1} of the drifting answer", max(0, -missing))
    if text and not _was_sent(text, asked, whole):
        verdict.wrong("spliced", f"{plan}: step {number + 1}: no engine sent {text[-80:]!r}")


def _was_sent(text: str, asked: Sequence[Asked], whole: bool) -> bool:
    """Whether a chain of requests, each continuing what an earlier one had sent, ends in this text."""
    sent: list[tuple[str, str]] = []
    for one in asked:
        if not one.begun or any(one.begun.startswith(begun) and all_.startswith(one.begun) for begun, all_ in sent):
            sent.append((one.begun, one.begun + one.sent))
    return any(text == all_ if whole else (all_.startswith(text) and text.startswith(begun)) for begun, all_ in sent)


async def _charge(
    parley: Parley, plan: Plan, step: Step, text: str, asked: Sequence[Asked], truth: Sequence[Entry], verdict: Verdict
) -> None:
    """The step's tokens are the words that were delivered and the engine's count of the prompt; the ledger has them."""
    number = step.seq // 2
    called = plan.directives[number].get("calls", ()) if _called(truth, number) else ()
    words = len(PIECES.findall(text)) + sum(_size(call) for call in called)
    prompt = 0
    if words and asked:
        prompt = len(await ScriptedEngine().prompt(asked[0].messages, "", asked[0].tools))
    right = (prompt, words) if words else (0, 0)
    if (step.prompt_tokens, step.completion_tokens) != right:
        said = step.prompt_tokens, step.completion_tokens
        verdict.wrong("charged_wrong", f"{plan}: step {step.seq} ({step.status}) has tokens {said}, should {right}")
    rows = await parley.db.query(
        "SELECT kind, tokens FROM ledger WHERE generation_id = $1 AND seq = $2 ORDER BY kind",
        step.generation_id,
        step.seq,
    )
    kinds = [row["kind"] for row in rows]
    if kinds != ["hold", "settle"] or rows[1]["tokens"] != step.prompt_tokens + step.completion_tokens:
        verdict.wrong("charged_wrong", f"{plan}: step {step.seq} has the ledger {[dict(row) for row in rows]}")


def _called(truth: Sequence[Entry], number: int) -> bool:
    results = 0
    for entry in truth:
        results += entry.kind == "tool_result"
        if entry.kind == "tool_call" and results == number:
            return True
    return False


def _size(call: Any) -> int:
    return len(PIECES.findall(f"{call['name']} {json.dumps(call['arguments'])}"))


def _view(plan: Plan, view: Any, truth: Sequence[Entry], status: str, verdict: Verdict) -> None:
    seen = text_of(view.entries)
    lost, doubled = _differences(text_of(truth), seen)
    verdict.wrong("tokens_lost", f"{plan}: a viewer, {view.gaps} gaps", lost + (view.gaps if not lost else 0))
    verdict.wrong("tokens_doubled", f"{plan}: a viewer", doubled + (view.overlaps if not doubled else 0))
    for kind in ("tool_call", "tool_result"):
        if [entry.data for entry in view.entries if entry.kind == kind] != [
            entry.data for entry in truth if entry.kind == kind
        ]:
            verdict.wrong("tokens_lost", f"{plan}: a viewer saw other entries of kind {kind}")
    if view.end and view.end != status:
        verdict.found.append(f"{plan}: a viewer was told {view.end}, the row says {status}")


def _differences(right: str, seen: str) -> tuple[int, int]:
    """Words of `right` that are missing from `seen`, and words that are there too often."""
    if right == seen:
        return 0, 0
    one, other = PIECES.findall(right), PIECES.findall(seen)
    lost = doubled = 0
    for kind, begin, end, first, last in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind != "equal":
            lost, doubled = lost + end - begin, doubled + last - first
    return lost, doubled


async def _sums(parley: Parley, verdict: Verdict) -> None:
    quotas = await parley.db.query("SELECT user_id, period, used, held FROM quota")
    for quota in quotas:
        [row] = await parley.db.query(
            "SELECT COALESCE(SUM(tokens), 0) AS used FROM ledger"
            " WHERE kind = 'settle' AND user_id = $1 AND period = $2",
            quota["user_id"],
            quota["period"],
        )
        if (quota["used"], quota["held"]) != (row["used"], 0):
            verdict.wrong("charged_wrong", f"the month {dict(quota)} has settlements of {row['used']}")


async def _places(parley: Parley, places: Sequence[Place], limit: int, verdict: Verdict) -> None:
    """Answers that ran at once: each surely from when it was admitted to when its row says that it ended."""
    moments: dict[str, list[tuple[float, int]]] = {}
    for place in places:
        rows = await parley.db.query("SELECT finished_at FROM generation WHERE id = $1", place.generation_id)
        if rows and rows[0]["finished_at"] and rows[0]["finished_at"] > place.at_ms:
            moments.setdefault(place.user_id, []).extend([(place.at_ms, 1), (rows[0]["finished_at"], -1)])
    for user_id, changes in moments.items():
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        verdict.wrong("over_limit", f"{user_id} had {most} answers at once, allowed {limit}", max(0, most - limit))
