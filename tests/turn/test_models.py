"""Which model answers in a thread: the one that was chosen there last, until another is named."""

from tests.parley import answer, person, script
from tests.turn.conftest import Pair

QUESTION = script(tokens=3, rate=0)


async def test_a_thread_keeps_the_model_that_was_chosen_in_it(pair: Pair) -> None:
    turns = pair.parley.turns
    ada = await person(pair.parley)
    first = await turns.say(ada, QUESTION, model="second")
    await answer(pair.parley, first.generation_id)
    later = await turns.say(ada, QUESTION, first.thread_id)
    await answer(pair.parley, later.generation_id)
    again = await turns.regenerate(ada, str(later.answer_id))
    await answer(pair.parley, again.generation_id)
    assert [one.model for one in (first, later, again)] == ["second"] * 3
    assert pair.asked == ["second"]

    elsewhere = await turns.say(ada, QUESTION)
    await answer(pair.parley, elsewhere.generation_id)
    assert (elsewhere.model, pair.asked) == ("first", ["second", "first"])


async def test_another_model_can_be_named_at_any_time(pair: Pair) -> None:
    turns = pair.parley.turns
    ada = await person(pair.parley)
    first = await turns.say(ada, QUESTION)
    await answer(pair.parley, first.generation_id)
    again = await turns.regenerate(ada, str(first.answer_id), model="second")
    await answer(pair.parley, again.generation_id)
    later = await turns.say(ada, QUESTION, first.thread_id, model="first")
    await answer(pair.parley, later.generation_id)
    assert [one.model for one in (first, again, later)] == ["first", "second", "first"]
    assert pair.asked == ["first", "second", "first"]
