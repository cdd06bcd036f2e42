"""What asks for the password does nothing without it, and is done once the password is right."""

from typing import Any

import pytest
from reflex.event import Event
from reflex_base.utils.format import format_event_handler

from chat_app.accounts.cookies import cookie_of
from chat_app.accounts.identity import Identity
from chat_app.accounts.tokens import digest
from chat_app.data.db.base import Statement
from chat_app.ui.state.account import Account
from chat_app.ui.state.plan_admin import NEW, PlanAdmin
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import Parley
from tests.parley import PASSWORD, person
from tests.ui.tab import page_of
from tests.ui.test_events import call, everything

ADA = "ada@example.org"
ASKING = [
    (Account, "make_key"),
    (Account, "rotate"),
    (PlanAdmin, "save"),
    (PlanAdmin, "archive"),
    (PlanAdmin, "assign"),
    (PlanAdmin, "set_role"),
]


@pytest.fixture
async def ada(parley: Parley) -> Identity:
    return await person(parley, ADA)


def tab_of(cookie: str, monkeypatch: pytest.MonkeyPatch, state: type[Visitor] = Account) -> Any:
    """A page with this cookie; the database says whose it is, and whether the password was shown."""
    with monkeypatch.context() as patch:
        page = page_of(state, None, patch)
    page.router = page.router.__class__.from_router_data({"headers": {"cookie": cookie}, "pathname": "/account"})
    return page


@pytest.fixture
async def stale(parley: Parley, ada: Identity) -> str:
    """A cookie of Ada's, whose password was shown long ago."""
    token = await parley.accounts.sign_in(ADA, PASSWORD)
    await parley.db.batch(Statement("UPDATE browser_session SET proved_at = 1 WHERE id = $1", (digest(token),)))
    return cookie_of(token)


@pytest.mark.parametrize(("state", "name"), ASKING, ids=[f"{state.__name__}.{name}" for state, name in ASKING])
async def test_without_the_password_nothing_is_done_and_it_is_asked_for(
    state: type[Visitor], name: str, parley: Parley, ada: Identity, stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parley.accounts.make_key(ada.user_id, "key")
    page = tab_of(stale, monkeypatch, state)
    before = await everything(parley)
    await call(page, name)
    assert await everything(parley) == before
    proof = await page.get_state(Proof)
    assert proof.asked
    assert proof._event == format_event_handler(state.event_handlers[name])


async def test_with_the_password_it_comes_again_as_it_was_and_is_done(
    parley: Parley, ada: Identity, stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tab_of(stale, monkeypatch)
    form = {"name": "script", "use": "chat", "days": "30"}
    assert [event async for event in page.make_key(form)] == []
    proof = await page.get_state(Proof)
    assert await proof.confirm({"password": "not it at all"}) is None
    assert proof.trouble == "The password is not right." and proof.asked == "make this key"
    again = await proof.confirm({"password": PASSWORD})
    assert again == Event(name=format_event_handler(Account.make_key), payload={"form": form})
    assert (proof.asked, proof.trouble, proof._event, proof._arguments) == ("", "", "", {})
    assert "sk-parley-" in str([event async for event in page.make_key(**again.payload)])
    assert [key.name for key in await parley.accounts.keys(ada.user_id)] == ["script"]


async def test_what_was_cancelled_does_not_come_again(
    parley: Parley, ada: Identity, stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tab_of(stale, monkeypatch)
    assert [event async for event in page.make_key({"name": "script"})] == []
    proof = await page.get_state(Proof)
    proof.cancel()
    assert proof.asked == ""
    assert await proof.confirm({"password": PASSWORD}) is None
    assert not await parley.accounts.is_proven(stale.partition("=")[2])  # And nobody asked for that proof.


async def test_a_plan_is_saved_once_the_password_was_shown(
    parley: Parley, ada: Identity, stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tab_of(stale, monkeypatch, PlanAdmin)
    await page.open()
    page.edit(NEW)
    form = {"id": "tiny", "name": "Tiny", "requests_per_minute": "1", "concurrent_streams": "1", "weight": "1"}
    await page.save(form)
    assert page.editing == NEW and "tiny" not in [plan.id for plan in page.plans]
    again = await (await page.get_state(Proof)).confirm({"password": PASSWORD})
    await page.save(**again.payload)
    assert page.editing == "" and "tiny" in [plan.id for plan in page.plans]


async def test_a_person_sees_where_they_are_signed_in_and_ends_the_others(
    parley: Parley, ada: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [await parley.accounts.sign_in(ADA, PASSWORD, browser=browser) for browser in ("Safari on iPhone", "", "")]
    page = tab_of(cookie_of(tokens[1]), monkeypatch)
    await page.open()
    assert sorted((line.browser, line.here) for line in page.sessions) == [
        ("An unknown browser", False), ("An unknown browser", True), ("Safari on iPhone", False),
    ]  # fmt: skip
    await page.end_session(digest(tokens[0]))
    assert [await parley.accounts.by_cookie(token) is not None for token in tokens] == [False, True, True]
    assert len(page.sessions) == 2
    await page.end_other_sessions()
    assert page.sessions_said == "1 other browser is signed out."
    assert [line.here for line in page.sessions] == [True]
    await page.end_other_sessions()
    assert page.sessions_said == "No other browser was signed in."


async def test_a_short_password_is_said_on_every_page_until_it_is_changed(
    parley: Parley, ada: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await parley.accounts.sign_in(ADA, PASSWORD)
    page = tab_of(cookie_of(token), monkeypatch)
    await page.open()
    assert not page.short_password
    await parley.db.batch(Statement("UPDATE browser_session SET short_password = 1"))
    await page.open()
    assert page.short_password
    new = "another good password"
    await page.change_password({"current": PASSWORD, "new": new, "again": new})
    assert not page.short_password
    await page.open()
    assert not page.short_password
