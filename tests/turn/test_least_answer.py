"""The end of a month: an answer for which too little is left is not begun."""

import pytest

from chat_app.accounts.identity import Identity
from chat_app.turn import TurnError
from chat_app.wiring import Parley
from tests.parley import answer, person, prompt_tokens, script

QUESTION = script(tokens=300, rate=0, seed=9)


async def with_room(parley: Parley, room: int) -> tuple[Identity, int]:
    """A person whose month has so many tokens left behind the question, and the plan's limit."""
    limit = await prompt_tokens(parley, QUESTION) + room
    await parley.plans.save("tiny", "Tiny", limit, 600, 8)
    made = await person(parley)
    await parley.accounts.set_plan(made.user_id, "tiny")
    identity = await parley.accounts.by_key(await parley.accounts.make_key(made.user_id, "test"))
    assert identity is not None
    return identity, limit


async def test_fifteen_tokens_are_too_few(parley: Parley) -> None:
    ada, limit = await with_room(parley, 15)
    with pytest.raises(TurnError) as refused:
        await parley.turns.say(ada, QUESTION)
    assert (refused.value.code, refused.value.status) == ("quota_exceeded", 429)
    month = await parley.ledger.allowance(ada.user_id, limit)
    assert (month.used, month.held) == (0, 0)
    assert await parley.threads.recent(ada) == []


async def test_sixteen_are_an_answer(parley: Parley) -> None:
    ada, limit = await with_room(parley, 16)
    started = await parley.turns.say(ada, QUESTION)
    assert (await answer(parley, started.generation_id))[1] == "done"
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.completion_tokens, view.receipt["finish"]) == (16, "length")
    month = await parley.ledger.allowance(ada.user_id, limit)
    assert (month.used, month.held) == (limit, 0)
