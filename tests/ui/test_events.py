"""Whoever opens a socket can call every event. None of them may do anything for somebody it is not for."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from chat_app.accounts.attempts import PER_EMAIL
from chat_app.accounts.identity import Identity
from chat_app.turn import Started
from chat_app.ui.state.account import Account
from chat_app.ui.state.audit_admin import AuditAdmin
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.entry import ThreadGroup, ThreadItem
from chat_app.ui.state.login import Login
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.profile import Profile
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.review_admin import ReviewAdmin
from chat_app.ui.state.second_factor import SecondFactor
from chat_app.ui.state.visitor import FACTOR_MISSING, SESSION_ENDED, Visitor
from chat_app.wiring import Parley
from tests.parley import StartParley, person
from tests.ui.tab import new_page, page_of

PAGES = (Visitor, Proof, Chat, Account, Login, PlanAdmin, Profile, ReviewAdmin, SecondFactor, AuditAdmin)
# These change what the caller's own page shows, out of what it has already, and ask the database nothing.
OF_THE_VIEW = {
    "Visitor.close_notice", "Visitor.notify", "Chat.ask_rename", "Chat.ask_delete", "Chat.close_dialog",
    "Account.ask_revoke", "Account.ask_rotate", "PlanAdmin.edit", "PlanAdmin.close_form", "Proof.cancel",
    "Profile.ask_close", "Profile.keep",
}  # fmt: skip
# These say nothing of a session that has ended: another event of the same page does.
SILENT = {"Chat.leave", "Chat.follow", "Chat.watch_engine", "Chat.watch_queue", "Chat.warm_model", "Profile.open"}
FOR_EVERYBODY = {"Login.open"}
FOR_STAFF = {"ReviewAdmin.decide", "ReviewAdmin.show_waiting", "ReviewAdmin.show_decided"}
FOR_ADMINISTRATORS = {
    "PlanAdmin.save", "PlanAdmin.archive", "PlanAdmin.find", "PlanAdmin.assign", "PlanAdmin.set_role",
    "AuditAdmin.find", "AuditAdmin.show",
}  # fmt: skip
FRAMEWORK = {"setvar"}


def events() -> Iterator[str]:
    for page in PAGES:
        for name in page.event_handlers:
            if name not in FRAMEWORK:
                yield f"{page.__name__}.{name}"


GUARDED = sorted(set(events()) - OF_THE_VIEW - FOR_EVERYBODY)


def test_no_event_is_forgotten_here() -> None:
    assert set(events()) >= OF_THE_VIEW | FOR_EVERYBODY | FOR_STAFF | FOR_ADMINISTRATORS
    assert not any(name.partition(".")[2].startswith("_") for name in events())


@pytest.fixture
async def running(start_parley: StartParley) -> Parley:
    return await start_parley()


async def call(page: Any, name: str) -> Any:
    """The event, with arguments that name things that exist."""
    function = page.event_handlers[name].fn
    given: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        form = {"text": "hello", "title": "Mine now", "name": "Stolen", "id": "stolen", "monthly_tokens": "1"}
        given[parameter.name] = form if parameter.annotation is not str else THREAD.get(parameter.name, "free")
    made = function(page, **given)
    if inspect.isasyncgen(made):
        return [event async for event in made]
    return await made if inspect.isawaitable(made) else made


THREAD = {"role": "admin", "plan_id": "enterprise"}


async def everything(parley: Parley) -> list[list[tuple[Any, ...]]]:
    tables = ("users", "thread", "message", "generation", "api_key", "plan", "review", "browser_session")
    return [
        sorted(
            tuple(str(value) for value in row.values())
            for row in map(dict, await parley.db.query(f"SELECT * FROM {t}"))
        )
        for t in tables
    ]


@pytest.mark.parametrize("event", GUARDED)
async def test_nobody_gets_nothing(event: str, running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await person(running)
    await running.accounts.make_key(owner.user_id, "key")
    before = await everything(running)
    state, _, name = event.partition(".")
    page = page_of(next(p for p in PAGES if p.__name__ == state), None, monkeypatch)
    page.ready = True  # It was opened while the session lasted.
    await call(page, name)
    assert await everything(running) == before
    shown = str(page.dict())
    assert "ada@example.org" not in shown
    assert owner.user_id not in shown
    assert page.gone == SESSION_ENDED or not page.ready or event in SILENT


async def test_who_has_to_set_up_a_second_factor_gets_nothing_else(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start_parley(require_second_factor="everyone")
    admin = await person(running)
    await running.accounts.make_key(admin.user_id, "key")
    before = await everything(running)

    async def signed_in(self: Visitor) -> Identity | None:
        return admin

    for event in GUARDED:
        state, _, name = event.partition(".")
        if state == "SecondFactor":
            continue
        page = new_page(next(p for p in PAGES if p.__name__ == state))
        monkeypatch.setattr(Visitor, "_signed_in", signed_in)
        page.ready = True  # It was opened before the settings wanted one.
        await call(page, name)
        assert await everything(running) == before, event
        assert "ada@example.org" not in str(page.dict()), event
        assert page.gone == FACTOR_MISSING or not page.ready or event in SILENT, event


@pytest.mark.parametrize("event", sorted(FOR_ADMINISTRATORS | FOR_STAFF))
async def test_a_person_without_the_role_gets_nothing(
    event: str, running: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(running)
    visitor = await person(running, "eve@example.org")
    before = await everything(running)
    state, _, name = event.partition(".")
    page = page_of(next(p for p in PAGES if p.__name__ == state), visitor, monkeypatch)
    await call(page, name)
    assert await everything(running) == before
    assert page.denied
    assert "ada@example.org" not in str(page.dict())


@pytest.mark.parametrize("state", [PlanAdmin, ReviewAdmin, AuditAdmin])
async def test_a_page_says_whom_it_is_for(
    state: type[Visitor], running: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(running)
    visitor = await person(running, "eve@example.org")
    page = page_of(state, visitor, monkeypatch)
    await call(page, "open")
    assert "This page is for" in page.denied
    assert "ada@example.org" not in str(page.dict())


async def test_guessing_the_current_password_is_bounded(running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(Account, await person(running), monkeypatch)
    wrong = {"current": "a guess", "new": "another password", "again": "another password"}
    for _ in range(3 * PER_EMAIL):  # On a busy machine a minute's attempts take so long that more are let in.
        await page.change_password(wrong)
        if "Too many attempts" in page.password_said:
            return
    raise AssertionError("nothing bounds the attempts")


@pytest.mark.parametrize(("day", "refreshed"), [("Today", False), ("Yesterday", True)])
def test_a_thread_that_goes_on_stands_under_today(day: str, refreshed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(Chat, None, monkeypatch)
    page.groups, page.shown_id = [ThreadGroup(day, [ThreadItem("t", "A thread")])], "t"
    assert len(page._begin(Started("g", "m", "t", "q", "a"))) == (3 if refreshed else 2)


async def test_another_persons_thread_is_no_thread(running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await person(running)
    started = await running.turns.say(owner, "my secret plan")
    visitor = await person(running, "eve@example.org")
    page = page_of(Chat, visitor, monkeypatch)
    await page._load(visitor, started.thread_id)
    assert page.missing
    assert page.messages == []
    assert "secret" not in str(page.dict())
    before = await everything(running)
    page.dialog_id = page.shown_id = started.thread_id
    page.live.id, page.live.generation_id = started.answer_id, started.generation_id
    for name in ("rename", "delete", "send", "regenerate", "load_earlier"):
        await call(page, name)
    after = await everything(running)
    assert after[1] == before[1]  # The threads are as they were.
    assert "secret" not in str(page.dict())
