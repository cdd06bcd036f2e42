"""Threads on either database: branches, heads, pages, histories, and whose they are."""

import asyncio
from itertools import pairwise

import pytest

from chat_app.data.db.base import Statement, Unmet
from chat_app.data.ids import new_id
from chat_app.sessions import threads as module
from chat_app.sessions.generations import NotFound
from chat_app.sessions.threads import GONE, Exchange, title_of
from tests.sessions.thread_author import ADA, EVE, Author


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Hello", "Hello"),
        ("  many \n\n  words ", "many words"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 60, "x" * 60),
        ("x" * 200, "x" * 59 + "…"),
        (" \n ", "New chat"),
        ("one, " * 40, "one, one, one, one, one, one, one, one, one, one, one…"),
    ],
)
def test_a_title_is_the_beginning_of_the_question(question: str, title: str) -> None:
    assert title_of(question) == title


# Branches and pages --------------------------------------------------------------------------------------------------


async def test_a_thread_opens_at_its_end_and_pages_upwards(ada: Author) -> None:
    thread_id = await ada.long_thread(5)
    last = await ada.threads.open(ADA, thread_id, limit=4)
    assert len(last.messages) == 4
    assert last.has_earlier
    earlier = await ada.threads.open(ADA, thread_id, limit=4, before=last.messages[0].id)
    assert len(earlier.messages) == 4
    first = await ada.threads.open(ADA, thread_id, limit=4, before=earlier.messages[0].id)
    assert not first.has_earlier
    shown = [*first.messages, *earlier.messages, *last.messages]
    whole = await ada.threads.open(ADA, thread_id)
    assert [message.id for message in shown] == [message.id for message in whole.messages]
    assert all(below.parent_id == above.id for above, below in pairwise(shown))
    assert whole.head_id == shown[-1].id


async def test_before_the_first_message_there_is_nothing(ada: Author) -> None:
    exchange = await ada.say("one")
    view = await ada.threads.open(ADA, exchange.thread_id, before=exchange.question_id)
    assert (view.messages, view.has_earlier) == ([], False)


async def test_a_page_shows_how_each_answer_came_out(ada: Author) -> None:
    exchange = await ada.say("one")
    await ada.end(exchange.answer_id, "refused", "no", {"model": "m"})
    question, answer = (await ada.threads.open(ADA, exchange.thread_id)).messages
    assert (question.role, question.content, question.status) == ("user", "one", "done")
    assert (answer.role, answer.content, answer.generation_id) == ("assistant", "yes", f"g-{exchange.answer_id}")
    assert (answer.status, answer.error, answer.receipt) == ("refused", "no", {"model": "m"})


async def test_a_page_says_what_each_answers_log_is_and_how_long(ada: Author) -> None:
    exchange = await ada.say("one")
    unanswered = (await ada.threads.open(ADA, exchange.thread_id)).messages
    assert [(message.log, message.log_length) for message in unanswered] == [("", 0), ("", 0)]
    await ada.end(exchange.answer_id, "done", "", None)
    await ada.db.batch(
        Statement("UPDATE generation SET log_length = 12 WHERE message_id = $1", (exchange.answer_id,)),
        Statement("UPDATE message SET log = 'the log' WHERE id = $1", (exchange.answer_id,)),
    )
    question, answer = (await ada.threads.open(ADA, exchange.thread_id)).messages
    assert (question.log, question.log_length) == ("", 0)
    assert (answer.log, answer.log_length, answer.receipt) == ("the log", 12, {})


async def test_pages_of_another_thread_or_person_are_not_read(ada: Author, eve: Author) -> None:
    own, other = await ada.say("own"), await ada.say("other")
    strange = await eve.say("secret")
    for message in (strange.answer_id, strange.question_id, other.answer_id, "nobody"):
        with pytest.raises(NotFound):
            await ada.threads.open(ADA, own.thread_id, before=message)
        with pytest.raises(NotFound):
            await ada.threads.open(ADA, own.thread_id, at=message)


async def test_an_answer_anew_stands_beside_the_old_one_and_is_shown(ada: Author) -> None:
    first = await ada.say("one")
    again = Exchange(first.thread_id, new_id(), first.question_id)
    assert not await ada.commit(again, first.answer_id)
    view = await ada.threads.open(ADA, first.thread_id)
    assert [message.id for message in view.messages] == [first.question_id, again.answer_id]
    assert [message.versions for message in view.messages] == [1, 2]
    old = await ada.threads.open(ADA, first.thread_id, at=first.answer_id)
    assert [message.id for message in old.messages] == [first.question_id, first.answer_id]
    assert old.head_id == first.answer_id


async def test_versions_are_of_the_same_parent_alone(ada: Author) -> None:
    first = await ada.say("one")
    second = await ada.say("two", first.thread_id)
    for _ in range(3):
        await ada.commit(Exchange(first.thread_id, new_id(), second.question_id), second.answer_id)
    view = await ada.threads.open(ADA, first.thread_id, at=second.answer_id)
    assert [message.versions for message in view.messages] == [1, 1, 1, 4]


async def test_counting_versions_has_an_end(ada: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = await ada.say("one")
    await ada.commit(Exchange(exchange.thread_id, new_id(), exchange.question_id), exchange.answer_id)
    few = module._BRANCH.replace(f"LIMIT {module.MOST_VERSIONS}", "LIMIT 1")
    assert few != module._BRANCH
    monkeypatch.setattr(module, "_BRANCH", few)
    view = await ada.threads.open(ADA, exchange.thread_id, at=exchange.answer_id)
    assert view.messages[-1].versions == 1


# Two at once ---------------------------------------------------------------------------------------------------------


async def test_two_questions_at_once_both_stay_as_siblings(ada: Author) -> None:
    first = await ada.say("one")
    both = [Exchange(first.thread_id, new_id(), first.answer_id, new_id(), text) for text in ("left", "right")]
    beside = await asyncio.gather(*(ada.commit(exchange, first.answer_id) for exchange in both))
    assert sorted(beside) == [False, True]
    shown = both[beside.index(False)]
    assert (await ada.threads.head(ADA, first.thread_id))[0] == shown.answer_id
    for exchange in both:
        view = await ada.threads.open(ADA, first.thread_id, at=exchange.answer_id)
        ids = [first.question_id, first.answer_id, exchange.question_id, exchange.answer_id]
        assert [message.id for message in view.messages] == ids
        assert [message.versions for message in view.messages] == [1, 1, 2, 1]
        history = await ada.threads.history(ADA, exchange.question_id, 1_000)
        assert [said.text for said in history.messages] == ["one", "yes", exchange.question]


async def test_many_questions_at_once_all_stay(ada: Author) -> None:
    first = await ada.say("one")
    many = [Exchange(first.thread_id, new_id(), first.answer_id, new_id(), str(at)) for at in range(8)]
    beside = await asyncio.gather(*(ada.commit(exchange, first.answer_id) for exchange in many))
    assert beside.count(False) == 1
    for exchange in many:
        view = await ada.threads.open(ADA, first.thread_id, at=exchange.answer_id)
        assert view.messages[2].content == exchange.question
        assert view.messages[2].versions == 8


async def test_the_head_moves_only_from_what_was_seen(ada: Author) -> None:
    first = await ada.say("one")
    assert await ada.commit(Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "x"), first.question_id)
    assert await ada.commit(Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "x"), None)
    assert (await ada.threads.head(ADA, first.thread_id))[0] == first.answer_id
    elsewhere = Exchange(first.thread_id, new_id(), first.question_id, new_id(), "from further up")
    assert not await ada.commit(elsewhere, first.answer_id)
    assert (await ada.threads.head(ADA, first.thread_id))[0] == elsewhere.answer_id


async def test_a_thread_without_a_head_takes_its_first_one(ada: Author) -> None:
    first = await ada.say("one")
    await ada.db.batch(Statement("UPDATE thread SET head_id = NULL WHERE id = $1", (first.thread_id,)))
    second = Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "two")
    assert await ada.commit(second, first.answer_id)
    assert not await ada.commit(Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "two"), None)


async def test_a_new_thread_is_its_own_branch(ada: Author) -> None:
    exchange = Exchange(new_id(), new_id(), None, new_id(), "Why is the sky blue?", True)
    assert not await ada.commit(exchange, None, "large")
    view = await ada.threads.open(ADA, exchange.thread_id)
    assert (view.title, view.model, view.head_id) == ("Why is the sky blue?", "large", exchange.answer_id)
    assert [(message.role, message.content) for message in view.messages] == [
        ("user", "Why is the sky blue?"),
        ("assistant", ""),
    ]


async def test_a_branched_exchange_is_found_among_the_results_of_a_bigger_batch(ada: Author) -> None:
    first = await ada.say("one")
    strange = await ada.say("another thread")
    other = Statement("SELECT id AS thread_id, head_id FROM thread WHERE id = $1", (strange.thread_id,))
    count = Statement("SELECT count(*) AS n FROM thread")
    for seen, expected in ((first.question_id, True), (first.answer_id, False)):
        exchange = Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "two")
        results = await ada.db.batch(other, *ada.threads.add(ADA, exchange, "g", "m", seen), count)
        assert module.branched(results, exchange) is expected


async def test_depth_counts_from_the_first_message_on_every_branch(ada: Author) -> None:
    first = await ada.say("one")
    second = await ada.say("two", first.thread_id)
    again = Exchange(first.thread_id, new_id(), first.question_id)
    await ada.commit(again, second.answer_id)
    rows = await ada.db.query("SELECT id, depth FROM message WHERE thread_id = $1", first.thread_id)
    depths = {row["id"]: row["depth"] for row in rows}
    assert [depths[id] for id in (first.question_id, first.answer_id, second.question_id, second.answer_id)] == [
        1,
        2,
        3,
        4,
    ]
    assert depths[again.answer_id] == 2


@pytest.mark.parametrize("whose", ["other thread", "other person", "nobody"])
async def test_a_parent_that_is_not_of_this_thread_is_refused_without_a_trace(
    ada: Author, eve: Author, whose: str
) -> None:
    own = await ada.say("own")
    parents = {
        "other thread": (await ada.say("other")).answer_id,
        "other person": (await eve.say("secret")).answer_id,
        "nobody": "nobody",
    }
    before = await ada.db.query("SELECT count(*) AS n FROM message")
    with pytest.raises(Unmet) as unmet:
        await ada.commit(Exchange(own.thread_id, new_id(), parents[whose], new_id(), "x"), own.answer_id)
    assert unmet.value.name == GONE == "thread"
    assert await ada.db.query("SELECT count(*) AS n FROM message") == before
    assert (await ada.threads.head(ADA, own.thread_id))[0] == own.answer_id


async def test_a_thread_deleted_meanwhile_is_unmet(ada: Author) -> None:
    first = await ada.say("one")
    await ada.threads.delete(ADA, first.thread_id)
    for exchange in (
        Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "two"),
        Exchange(first.thread_id, new_id(), first.question_id),
    ):
        with pytest.raises(Unmet) as unmet:
            await ada.commit(exchange, first.answer_id)
        assert unmet.value.name == GONE
    assert len(await ada.db.query("SELECT id FROM message")) == 2


async def test_nobody_writes_into_another_persons_thread(ada: Author, eve: Author) -> None:
    first = await ada.say("one")
    with pytest.raises(Unmet) as unmet:
        await eve.commit(Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "mine"), first.answer_id)
    assert unmet.value.name == GONE
    assert len(await ada.db.query("SELECT id FROM message")) == 2


async def test_a_turn_remembers_the_threads_model_and_when_it_was(ada: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await ada.say("one")
    monkeypatch.setattr(module, "now_ms", lambda: 2**41)
    await ada.commit(Exchange(first.thread_id, new_id(), first.answer_id, new_id(), "two"), first.answer_id, "large")
    assert (await ada.threads.head(ADA, first.thread_id))[1] == "large"
    [line] = await ada.threads.recent(ADA)
    assert line.updated_at == 2**41


# The list ------------------------------------------------------------------------------------------------------------


async def test_a_clock_that_falls_back_hides_no_thread(ada: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    await ada.say("now")
    with monkeypatch.context() as patch:
        patch.setattr(module, "now_ms", lambda: 2**42)
        await ada.say("in the far future")
    assert [line.title for line in await ada.threads.recent(ADA)] == ["in the far future", "now"]


async def test_a_longer_list_begins_like_a_shorter_one_though_threads_are_of_the_same_moment(
    ada: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "now_ms", lambda: 1_000)
    made = set()
    for id in ("c", "a", "g", "b", "f", "e", "d"):
        exchange = Exchange(id, new_id(), None, new_id(), id, True)
        await ada.commit(exchange, None)
        made.add(id)
    monkeypatch.setattr(module, "now_ms", lambda: 2_000)
    newest = (await ada.say("newest")).thread_id
    listed = [line.id for line in await ada.threads.recent(ADA)]
    assert listed[0] == newest
    assert len(listed) == 8
    assert set(listed[1:]) == made
    for limit in (1, 3, 7):
        assert [line.id for line in await ada.threads.recent(ADA, limit)] == listed[:limit]


async def test_the_list_is_a_persons_own_without_what_was_deleted(ada: Author, eve: Author) -> None:
    kept, deleted = await ada.say("kept"), await ada.say("deleted")
    await eve.say("secret")
    await ada.threads.delete(ADA, deleted.thread_id)
    [line] = await ada.threads.recent(ADA)
    assert (line.id, line.title) == (kept.thread_id, "kept")
    assert [line.title for line in await ada.threads.recent(EVE)] == ["secret"]


# One thread ----------------------------------------------------------------------------------------------------------


async def test_renamed_and_deleted(ada: Author) -> None:
    thread_id = (await ada.say("one")).thread_id
    other = (await ada.say("other")).thread_id
    await ada.threads.rename(ADA, thread_id, "  Rain  ")
    await ada.threads.rename(ADA, thread_id, "  ")
    assert (await ada.threads.open(ADA, thread_id)).title == "Rain"
    assert (await ada.threads.open(ADA, other)).title == "other"
    await ada.threads.rename(ADA, thread_id, "x" * 500)
    assert (await ada.threads.open(ADA, thread_id)).title == "x" * 120
    await ada.threads.delete(ADA, thread_id)
    for gone in (ada.threads.open, ada.threads.head, ada.threads.delete):
        with pytest.raises(NotFound):
            await gone(ADA, thread_id)
    with pytest.raises(NotFound):
        await ada.threads.rename(ADA, thread_id, "back")
    assert (await ada.threads.head(ADA, other))[1] == "m"


async def test_another_person_finds_nothing(ada: Author, eve: Author) -> None:
    exchange = await ada.say("secret")
    for refused in (
        eve.threads.open(EVE, exchange.thread_id),
        eve.threads.open(EVE, exchange.thread_id, before=exchange.answer_id),
        eve.threads.open(EVE, exchange.thread_id, at=exchange.answer_id),
        eve.threads.head(EVE, exchange.thread_id),
        eve.threads.answer(EVE, exchange.answer_id),
        eve.threads.rename(EVE, exchange.thread_id, "mine"),
        eve.threads.delete(EVE, exchange.thread_id),
    ):
        with pytest.raises(NotFound):
            await refused
    assert (await ada.threads.open(ADA, exchange.thread_id)).title == "secret"


async def test_an_answer_leads_to_its_question(ada: Author) -> None:
    exchange = await ada.say("why?")
    assert await ada.threads.answer(ADA, exchange.answer_id) == (exchange.thread_id, exchange.question_id)
    with pytest.raises(NotFound):
        await ada.threads.answer(ADA, str(exchange.question_id))
    await ada.threads.delete(ADA, exchange.thread_id)
    with pytest.raises(NotFound):
        await ada.threads.answer(ADA, exchange.answer_id)
