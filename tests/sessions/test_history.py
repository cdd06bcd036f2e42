"""The history of a thread that a prompt is built from: what it reads, and that it reads no more."""

import pytest

from chat_app.data.db.base import Statement
from chat_app.sessions import threads as module
from chat_app.sessions.generations import NotFound
from chat_app.sessions.threads import Threads
from tests.sessions.thread_author import ADA, EVE, Author, Watched


async def test_a_history_reads_from_the_first_message_to_the_named_one(ada: Author) -> None:
    first = await ada.say("one", said="1")
    second = await ada.say("two", first.thread_id, said="2")
    history = await ada.threads.history(ADA, second.answer_id, 1_000)
    assert [(said.role, said.text, said.position) for said in history.messages] == [
        ("user", "one", 0),
        ("assistant", "1", 1),
        ("user", "two", 2),
        ("assistant", "2", 3),
    ]
    assert len((await ada.threads.history(ADA, first.answer_id, 1_000)).messages) == 2
    assert (await ada.threads.history(ADA, None, 1_000)).messages == ()


async def test_a_question_without_an_answer_is_left_out_with_it_but_not_as_the_last_message(ada: Author) -> None:
    first = await ada.say("one", said="1")
    silent = await ada.say("never answered", first.thread_id, said="")
    last = await ada.say("three", first.thread_id, said="3")
    history = await ada.threads.history(ADA, last.answer_id, 1_000)
    assert [(said.text, said.position) for said in history.messages] == [("one", 0), ("1", 1), ("three", 4), ("3", 5)]
    history = await ada.threads.history(ADA, silent.question_id, 1_000)
    assert [said.text for said in history.messages] == ["one", "1", "never answered"]
    history = await ada.threads.history(ADA, silent.answer_id, 1_000)
    assert [said.text for said in history.messages] == ["one", "1"]


async def test_a_history_of_a_long_thread_reads_its_end_alone(ada: Author) -> None:
    thread_id = await ada.long_thread(2_500)
    head = (await ada.threads.head(ADA, thread_id))[0]
    watched = Watched(ada.db)
    history = await Threads(watched).history(ADA, head, 3_000)  # type: ignore[arg-type]
    assert len(watched.rows) == 1
    assert sum(watched.rows) <= 3_000 // 30
    last = history.messages[-1]
    assert (last.position, last.role, last.text) == (4_999, "assistant", "4999 word ")
    positions = [said.position for said in history.messages]
    assert positions == list(range(positions[0], 5_000))
    assert all(said.text.split()[0] == str(said.position) for said in history.messages)
    read = sum(len(said.text) + module.LEAST_CHARS for said in history.messages)
    assert 3_000 <= read < 3_000 + len("9999 word ") + module.LEAST_CHARS


async def test_a_history_ends_where_it_has_enough_to_the_character(ada: Author) -> None:
    first = await ada.say("a" * 30, said="b" * 20)
    second = await ada.say("c" * 10, first.thread_id, said="d" * 5)
    enough = 10 + 5 + 2 * module.LEAST_CHARS
    history = await ada.threads.history(ADA, second.answer_id, enough)
    assert [said.position for said in history.messages] == [2, 3]
    history = await ada.threads.history(ADA, second.answer_id, enough + 1)
    assert [said.position for said in history.messages] == [1, 2, 3]
    assert (await ada.threads.history(ADA, second.answer_id, 0)).messages == ()


async def test_empty_messages_do_not_make_a_history_read_without_end(ada: Author) -> None:
    thread_id = await ada.long_thread(2_500)
    await ada.db.batch(Statement("UPDATE message SET content = '' WHERE thread_id = $1", (thread_id,)))
    head = (await ada.threads.head(ADA, thread_id))[0]
    watched = Watched(ada.db)
    history = await Threads(watched).history(ADA, head, 24_000)  # type: ignore[arg-type]
    assert history.messages == ()
    assert sum(watched.rows) == 24_000 // module.LEAST_CHARS
    assert max(watched.rows) == module.ROUND


async def test_a_history_of_several_rounds_lacks_nothing_in_between(ada: Author) -> None:
    thread_id = await ada.long_thread(module.ROUND + 100)
    head = (await ada.threads.head(ADA, thread_id))[0]
    watched = Watched(ada.db)
    history = await Threads(watched).history(ADA, head, 1_000_000)  # type: ignore[arg-type]
    assert [said.position for said in history.messages] == list(range(2 * module.ROUND + 200))
    assert watched.rows == [module.ROUND, module.ROUND, 200]


async def test_a_page_of_a_long_thread_reads_its_messages_alone(ada: Author) -> None:
    thread_id = await ada.long_thread(600)
    watched = Watched(ada.db)
    view = await Threads(watched).open(ADA, thread_id, limit=40)  # type: ignore[arg-type]
    assert watched.rows == [1, 40]
    assert view.messages[-1].content == "1199 word "


async def test_a_history_knows_which_model_read_from_where_on(ada: Author) -> None:
    first = await ada.say("one")
    await ada.end(first.answer_id, "done", "", {"dropped_messages": 0}, model="small")
    second = await ada.say("two", first.thread_id)
    await ada.end(second.answer_id, "done", "", {"dropped_messages": 8}, model="large")
    silent = await ada.say("three", first.thread_id, said="")
    await ada.end(silent.answer_id, "failed", "gone", {"dropped_messages": 12}, model="small")
    history = await ada.threads.history(ADA, silent.answer_id, 1_000)
    assert (history.model, history.dropped) == ("large", 8)
    history = await ada.threads.history(ADA, first.answer_id, 1_000)
    assert (history.model, history.dropped) == ("small", 0)
    history = await ada.threads.history(ADA, first.question_id, 1_000)
    assert (history.model, history.dropped) == ("", None)


async def test_an_answer_that_still_runs_says_nothing_of_its_prompt(ada: Author) -> None:
    first = await ada.say("one")
    await ada.end(first.answer_id, "streaming", "", None, model="small")
    history = await ada.threads.history(ADA, first.answer_id, 1_000)
    assert (history.model, history.dropped) == ("small", None)


async def test_a_history_is_its_owners_alone(ada: Author, eve: Author) -> None:
    first = await ada.say("secret")
    with pytest.raises(NotFound):
        await eve.threads.history(EVE, first.answer_id, 1_000)
    with pytest.raises(NotFound):
        await ada.threads.history(ADA, "nobody", 1_000)
    await ada.threads.delete(ADA, first.thread_id)
    with pytest.raises(NotFound):
        await ada.threads.history(ADA, first.answer_id, 1_000)
