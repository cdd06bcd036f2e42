"""Threads: pages of a long branch, and whose they are."""

from itertools import pairwise

import pytest

from chat_app.sessions.generations import NotFound
from chat_app.sessions.threads import title_of
from chat_app.wiring import Parley
from tests.parley import answer, person, script


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Hello", "Hello"),
        ("  many \n\n  words ", "many words"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 200, "x" * 59 + "…"),
    ],
)
def test_a_title_is_the_beginning_of_the_question(question: str, title: str) -> None:
    assert title_of(question) == title


async def long_thread(parley: Parley, turns: int):  # type: ignore[no-untyped-def]
    ada = await person(parley)
    thread_id = None
    for turn in range(turns):
        started = await parley.turns.say(ada, script(tokens=2, rate=0, seed=turn), thread_id)
        await answer(parley, started.generation_id)
        thread_id = started.thread_id
    assert thread_id is not None
    return ada, thread_id


async def test_a_thread_opens_at_its_end_and_pages_upwards(parley: Parley) -> None:
    ada, thread_id = await long_thread(parley, 5)
    last = await parley.threads.open(ada, thread_id, limit=4)
    assert len(last.messages) == 4
    assert last.has_earlier
    earlier = await parley.threads.open(ada, thread_id, limit=4, before=last.messages[0].id)
    first = await parley.threads.open(ada, thread_id, limit=4, before=earlier.messages[0].id)
    assert not first.has_earlier
    shown = [*first.messages, *earlier.messages, *last.messages]
    whole = await parley.threads.open(ada, thread_id)
    assert [message.id for message in shown] == [message.id for message in whole.messages]
    assert all(below.parent_id == above.id for above, below in pairwise(shown))


async def test_renamed_and_deleted(parley: Parley) -> None:
    ada, thread_id = await long_thread(parley, 1)
    await parley.threads.rename(ada, thread_id, "  Rain  ")
    await parley.threads.rename(ada, thread_id, "  ")
    assert (await parley.threads.open(ada, thread_id)).title == "Rain"
    await parley.threads.delete(ada, thread_id)
    assert await parley.threads.recent(ada) == []
    with pytest.raises(NotFound):
        await parley.threads.open(ada, thread_id)


async def test_another_person_finds_nothing(parley: Parley) -> None:
    _, thread_id = await long_thread(parley, 1)
    eve = await person(parley, "eve@example.org")
    with pytest.raises(NotFound):
        await parley.threads.open(eve, thread_id)
    with pytest.raises(NotFound):
        await parley.threads.rename(eve, thread_id, "mine")
    with pytest.raises(NotFound):
        await parley.threads.delete(eve, thread_id)
