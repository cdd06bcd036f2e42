"""What the chat page's state does with questions and entries: what it names to the turn, what it sends again."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.data.log.entries import Entry
from chat_app.sessions.viewer import Gone, Update
from chat_app.ui import words
from chat_app.ui.parts import Parts
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.entry import Entry as Message
from chat_app.ui.state.open_pages import OpenPages, open_pages
from chat_app.wiring import Parley
from tests.parley import StartParley, answer, person, script
from tests.ui.tab import page_of


@pytest.fixture
async def running(start_parley: StartParley) -> Parley:
    return await start_parley()


def call() -> Entry:
    return Entry("tool_call", data={"id": "1", "name": "calculator", "arguments": "{}"})


def test_a_token_sends_the_open_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    page, read = page_of(Chat, None, monkeypatch), Parts()
    page.live = Message("a", status="streaming")
    log = [
        (Entry("reasoning", "Let "), {"parts", "thought", "silent"}),
        (Entry("reasoning", "me see."), {"thought"}),
        (Entry("text", "One"), {"parts", "thought", "tail"}),
        (Entry("text", " two"), {"tail"}),
        (Entry("text", "\n\nThree"), {"finished", "tail"}),
        (Entry("text", " four"), {"tail"}),
        (call(), {"parts", "finished", "tail"}),
        (Entry("tool_result", data={"id": "1", "content": "391"}), {"parts", "silent"}),
        (Entry("text", "So"), {"tail", "silent"}),
        (Entry("status", data={"model": "other"}), set()),
    ]
    for entry, sent in log:
        page._clean()
        read.feed([entry])
        page._show(read, None)
        assert page.dirty_vars == sent, entry


def test_the_answer_takes_its_place_with_all_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    page, read = page_of(Chat, None, monkeypatch), Parts()
    page.live = Message("a", status="streaming", generation_id="g")
    read.feed([Entry("reasoning", "Hm."), Entry("text", "One.\n\nTwo."), call(), Entry("text", "Three.\n\nFour.")])
    page._show(read, Message("a", status="done", generation_id="g"))
    kept = page._kept_live()
    assert [(part.kind, part.blocks) for part in kept.parts] == [
        ("reasoning", ["Hm."]),
        ("text", ["One.\n\n", "Two."]),
        ("tool", []),
        ("text", ["Three.\n\n", "Four."]),
    ]
    assert (kept.id, kept.status) == ("a", "done")


async def test_a_page_continues_what_it_shows(running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await person(running)
    started = await running.turns.say(who, script(tokens=3))
    await answer(running, started.generation_id)
    here, there = (page_of(Chat, who, monkeypatch) for _ in range(2))
    for page in (here, there):
        await page._load(who, started.thread_id)
    for page, question in ((here, "first"), (there, "second")):
        await page.send({"text": question})
        await answer(running, page.live.generation_id)
    assert here.notice == ""
    assert there.notice == words.BRANCHED
    parents = await running.db.query("SELECT content, parent_id FROM message WHERE role = 'user' AND content <> ''")
    assert {row["content"]: row["parent_id"] for row in parents if row["content"] in ("first", "second")} == {
        "first": started.answer_id,
        "second": started.answer_id,
    }
    own = here.live.id
    here.live.status = "done"
    await here.send({"text": "third"})
    rows = await running.db.query("SELECT parent_id FROM message WHERE content = 'third'")
    assert rows[0]["parent_id"] == own == here.messages[-2].id


async def test_a_thread_that_was_deleted_elsewhere_is_missing(running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await person(running)
    started = await running.turns.say(who, script(tokens=400, rate=40))
    page = page_of(Chat, who, monkeypatch)
    await page._load(who, started.thread_id)
    await page._look_for_thread(who)
    assert not page.missing
    await running.turns.delete(who, started.thread_id)
    assert (await answer(running, started.generation_id))[1] == "stopped"
    await page._look_for_thread(who)
    assert page.missing
    assert page.groups == []
    page.missing, page.live.status = False, "stopped"
    await page.send({"text": "Still there?"})
    assert page.missing


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch) -> Callable[[Identity], Any]:
    """Makes chat pages whose background events run in this process, as if a browser held them open."""

    async def enter(page: Chat) -> Chat:
        return page

    async def leave(page: Chat, *error: object) -> None:
        return None

    monkeypatch.setattr(Chat, "__aenter__", enter, raising=False)
    monkeypatch.setattr(Chat, "__aexit__", leave, raising=False)
    monkeypatch.setattr(OpenPages, "has", lambda pages, turn: True)
    return lambda who: page_of(Chat, who, monkeypatch)


async def follow(page: Any) -> None:
    await page._follow(open_pages.take("tab", "follow"), page.live.generation_id)


async def test_a_turn_of_two_steps_is_followed_and_then_read_as_the_same(
    running: Parley, tab: Callable[[Identity], Any]
) -> None:
    who = await person(running)
    call = {"name": "calculator", "arguments": {"expression": "17 * 23"}}
    question = script(reasoning="Let me see.", text="I compute.", calls=[call], then={"text": "It is 391."})
    page = tab(who)
    await page.send({"text": question})
    await follow(page)
    assert page.live.status == "done"
    followed = page._kept_live()
    assert [(part.kind, part.label or "".join(part.blocks).strip()) for part in followed.parts] == [
        ("reasoning", followed.parts[0].label),
        ("text", "I compute."),
        ("tool", "Used calculator: 17 * 23 = 391"),
        ("text", "It is 391."),
    ]
    assert followed.parts[0].label.startswith("Thought")
    assert [fact.label[:2] for fact in followed.steps] == ["1.", "2.", "3."]
    again = tab(who)
    await again._load(who, page.shown_id)
    assert again._kept_live() == followed


async def test_an_answer_whose_text_is_gone_says_so(
    running: Parley, tab: Callable[[Identity], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await person(running)
    page = tab(who)
    await page.send({"text": script(tokens=3)})

    async def gone(*_: object, **__: object) -> AsyncGenerator[Update, None]:
        yield Update(0, (Entry("text", "Half of"),), 7)
        raise Gone(1234)

    monkeypatch.setattr(running.viewer, "follow", gone)
    await follow(page)
    assert page.live.status == "gone"
    assert page.live.error == "The text of this answer is not kept any more; its log had 1,234 characters."
    assert not page.live.running


async def test_a_page_whose_chat_is_deleted_while_it_is_answered_says_so(
    running: Parley, tab: Callable[[Identity], Any]
) -> None:
    who = await person(running)
    page = tab(who)
    await page.send({"text": script(tokens=400, rate=40)})
    following = asyncio.create_task(follow(page))
    await asyncio.sleep(0.2)
    await running.turns.delete(who, page.shown_id)
    await following
    assert page.live.status == "stopped"
    assert page.missing


async def test_another_persons_answer_is_not_followed(running: Parley, tab: Callable[[Identity], Any]) -> None:
    started = await running.turns.say(await person(running), script(text="between us"))
    await answer(running, started.generation_id)
    page = tab(await person(running, "eve@example.org"))
    page.live = Message("a", status="streaming", generation_id=started.generation_id)
    await follow(page)
    assert "between" not in str(page.dict())
