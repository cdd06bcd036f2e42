"""An answer that the check ends: what a reviewer is shown of it, and that it costs what the engine wrote."""

import asyncio
from typing import Any

import pytest

from chat_app.data.db.base import DatabaseUnavailable, OutcomeUnknown, Statement
from chat_app.turn import TurnError
from chat_app.turn.call_gate import MOST_CALLS
from chat_app.turn.stream import TOO_MANY_CALLS
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import entries, goes_on, person, script

KEY = "AKIA" + "Q7R3ZK5TWM2X6PDB"
CALL = {"name": "calculator", "arguments": {"expression": "17 * 23"}}
WRITTEN = {"name": "calculator", "arguments": {"expression": f"17 + {KEY}"}}

REFUSED = {
    "reasoning": ({"reasoning": f"I recall {KEY} , do I not?", "text": "Nothing else."}, "I recall AKIA"),
    "text": ({"text": f"It is {KEY} , as you know."}, "It is AKIA"),
    "text behind reasoning": ({"reasoning": "Is it that?", "text": f"It is {KEY} , I think."}, "It is AKIA"),
    "call": ({"text": "Let me see.", "calls": [CALL, WRITTEN, CALL]}, '{"expression": "17 + AKIA'),
    "call alone": ({"calls": [WRITTEN]}, '{"expression": "17 + AKIA'),
}


def says(**directive: Any) -> str:
    """A question whose answer holds the key, and which the check of the input lets pass."""
    return script(**directive).replace("AKIA", "\\u0041KIA")


@pytest.mark.parametrize("within", REFUSED)
@pytest.mark.parametrize("step", ["first", "second"])
async def test_a_reviewer_sees_what_led_to_what_was_refused(parley: Parley, within: str, step: str) -> None:
    ada = await person(parley)
    directive, kept = REFUSED[within]
    asked = directive if step == "first" else {"text": "I shall compute it.", "calls": [CALL], "then": directive}
    started = await parley.turns.say(ada, says(**asked))
    assert (await entries(parley, started.generation_id))[1] == "refused"
    [review] = await parley.reviews.waiting()
    assert review.content == kept


@pytest.mark.parametrize("within", REFUSED)
async def test_who_settles_a_refusal_for_another_has_it_from_the_seal(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    ada = await person(parley)
    directive, kept = REFUSED[within]
    batch, sealed = parley.db.batch, asyncio.Event()

    async def never_settled(*statements: Statement) -> Any:
        if any("INSERT INTO review" in statement.sql for statement in statements):
            sealed.set()
            await asyncio.Event().wait()
        return await batch(*statements)

    with monkeypatch.context() as patch:
        patch.setattr(parley.db, "batch", never_settled)
        started = await parley.turns.say(ada, says(**directive))
        await asyncio.wait_for(sealed.wait(), 10)
        await parley.ownership.close()
    monkeypatch.setattr(parley.client, "stream", None)  # No engine is asked.
    await goes_on(parley)
    assert (await asyncio.wait_for(entries(parley, started.generation_id), 10))[1] == "refused"
    [review] = await parley.reviews.waiting()
    assert review.content == kept


@pytest.mark.parametrize(
    ("calls", "status", "error"),
    [([WRITTEN], "refused", "looks like a key"), ([CALL] * (MOST_CALLS + 1), "failed", TOO_MANY_CALLS)],
    ids=["refused", "too many"],
)
async def test_calls_that_nobody_gets_are_paid_for(parley: Parley, calls: list[Any], status: str, error: str) -> None:
    ada = await person(parley)
    ask = Message("user", says(calls=calls))
    started = await parley.turns.call(ada, [ask], built_in=["calculator"])
    shown, end = await entries(parley, started.generation_id)
    assert (end, [entry.kind for entry in shown]) == (status, ["sealed"])
    view = await parley.generations.view(ada, started.generation_id)
    assert error in view.error
    assert view.prompt_tokens > 0 and view.completion_tokens >= 2 * len(calls)
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (view.prompt_tokens + view.completion_tokens, 0)


@pytest.mark.parametrize(
    ("troubles", "tries"),
    [([DatabaseUnavailable], 1), ([OutcomeUnknown, DatabaseUnavailable, DatabaseUnavailable, DatabaseUnavailable], 2)],
    ids=["away", "lost"],
)
async def test_a_question_is_refused_without_waiting_for_a_database(
    parley: Parley, monkeypatch: pytest.MonkeyPatch, troubles: list[type[Exception]], tries: int
) -> None:
    """Where it was lost meanwhile, one look says what became of the refusal."""
    await parley.plans.save("free", "Free", None, 600, 1)
    ada = await person(parley)
    batch, left, tried = parley.db.batch, list(troubles), list[int]()

    async def troubled(*statements: Statement) -> Any:
        if any("INSERT INTO review" in statement.sql for statement in statements):
            tried.append(len(statements))
            if left:
                raise left.pop(0)
        return await batch(*statements)

    monkeypatch.setattr(parley.db, "batch", troubled)
    for said, code in ((f"My key is {KEY} .", "storage_unavailable"), ("Hello", "")):
        try:
            await parley.turns.say(ada, said)
        except TurnError as error:
            assert (error.code, error.status, error.retry_after) == (code, 503, 5)
        else:
            assert code == "", "it was said to be stored"
    assert len(tried) == tries
    assert await parley.reviews.waiting() == []
