"""A tab's state changes hands: what it held is gone, and the states of nobody are not kept."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import reflex as rx
from reflex.istate.manager.token import BaseStateToken
from reflex_base.registry import RegistrationContext

import chat_app.chat_app
from chat_app.accounts.tokens import digest
from chat_app.ui.guard import states
from chat_app.ui.guard.ended import drop_ended
from chat_app.ui.guard.namespace import PageNamespace
from chat_app.ui.guard.owner import Owner, give, session_of, take_back
from chat_app.ui.guard.states import MemoryStates
from chat_app.ui.state.account import Account
from chat_app.ui.state.audit_admin import AuditAdmin
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.review_admin import ReviewAdmin, ReviewLine
from chat_app.ui.state.visitor import Visitor
from tests.parley import PASSWORD, StartParley, person
from tests.ui.tab import page_of

KEPT = ("ada@example.org", "my secret plan")


@pytest.fixture
async def tab(start_parley: StartParley, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The state of a tab in which an administrator has opened everything, under the session `a`."""
    running = await start_parley()
    owner = await person(running)  # The first one, so an administrator.
    started = await running.turns.say(owner, KEPT[1])
    page = page_of(Chat, owner, monkeypatch)
    root = page._get_root_state()
    await give(root, "a")
    for state in (Chat, Account, PlanAdmin):
        await (await page.get_state(state)).open()
    await page._load(owner, started.thread_id)
    page.tz = "Europe/Paris"
    root._clean()
    for kept in KEPT:
        assert kept in str(root.dict())
    return root


async def test_its_own_session_finds_it_as_it_was(tab: Any) -> None:
    before = tab.dict()
    await give(tab, "a", anew=True)
    assert tab.dict() == before


@pytest.mark.parametrize(
    ("session", "options"), [("b", {}), ("", {}), ("", {"anew": True}), ("b", {"in_force": False})]
)
async def test_another_session_or_none_finds_it_empty(session: str, options: dict[str, bool], tab: Any) -> None:
    await give(tab, session, **options)
    for kept in KEPT:
        assert kept not in str(tab.dict())
    assert str(await tab._get_resolved_delta()).count("rx_state_") == 0  # And is told nothing of what was there.
    chat = await tab.get_state(Chat)
    assert (chat.tz, chat.is_admin, chat.ready) == ("Europe/Paris", False, False)
    assert (await tab.get_state(Owner))._session == (session if options.get("in_force", True) else "")


async def test_nobody_finds_what_nobody_left_only_until_a_page_asks_again(tab: Any) -> None:
    await give(tab, "")
    (await tab.get_state(Chat)).notice = "of another nobody"
    await give(tab, "")
    assert "of another nobody" in str(tab.dict())
    await give(tab, "", anew=True)
    assert "of another nobody" not in str(tab.dict())


def test_a_session_is_known_by_the_digest_of_its_cookie() -> None:
    assert session_of(f"a=b; parley_session={'t' * 43}") == session_of(f"parley_session={'t' * 43}") != ""
    assert session_of("parley_session=short") == session_of("") == ""


async def test_a_closed_tab_of_an_ended_session_is_emptied_and_others_are_not(start_parley: StartParley) -> None:
    running = await start_parley()
    await person(running)
    gone, here = [await running.accounts.sign_in("ada@example.org", PASSWORD) for _ in range(2)]
    app = chat_app.chat_app.app
    RegistrationContext.set(app._registration_context)
    kept, namespace = MemoryStates(), PageNamespace("/_event", app)  # type: ignore[abstract]
    for tab, token in (("gone", gone), ("here", here)):
        namespace.tabs[tab] = digest(token)
        async with kept.modify_state(BaseStateToken(ident=tab, cls=rx.State)) as state:
            await give(state, digest(token))
            (await state.get_state(Chat)).dialog_title = KEPT[1]
    await drop_ended(namespace, kept)
    assert KEPT[1] in str(kept.states["gone"].dict())
    await running.accounts.sign_out(gone)
    await drop_ended(namespace, kept)
    assert KEPT[1] not in str(kept.states["gone"].dict())
    assert KEPT[1] in str(kept.states["here"].dict())
    assert namespace.tabs.keys() == {"here"}
    await kept.close()


async def test_what_the_staff_saw_goes_from_a_tab_that_lies_open_once_it_is_not_theirs(
    start_parley: StartParley,
) -> None:
    running = await start_parley()
    await person(running)
    staff = await person(running, "staff@example.org", "staff")
    session = digest(await running.accounts.sign_in("staff@example.org", PASSWORD))
    app = chat_app.chat_app.app
    RegistrationContext.set(app._registration_context)
    kept, namespace = MemoryStates(), PageNamespace("/_event", app)  # type: ignore[abstract]
    namespace.tabs["tab"], namespace.staff["tab"] = session, "staff"
    async with kept.modify_state(BaseStateToken(ident="tab", cls=rx.State)) as state:
        await give(state, session)
        await take_back(state, "staff")
        (await state.get_state(ReviewAdmin)).waiting = [ReviewLine(head="what somebody wrote")]
        (await state.get_state(Chat)).dialog_title = KEPT[1]
    await drop_ended(namespace, kept)
    assert "what somebody wrote" in str(kept.states["tab"].dict())
    await running.accounts.set_role(staff.user_id, "user")
    await drop_ended(namespace, kept)
    shown = str(kept.states["tab"].dict())
    assert "what somebody wrote" not in shown and KEPT[1] in shown
    assert (namespace.tabs, namespace.staff) == ({"tab": session}, {})
    await kept.close()


async def test_every_page_for_the_staff_is_emptied_once_the_role_is_gone(start_parley: StartParley) -> None:
    await start_parley()
    app = chat_app.chat_app.app
    RegistrationContext.set(app._registration_context)
    kept = MemoryStates()  # type: ignore[abstract]
    shown: dict[type[Visitor], dict[str, object]] = {
        ReviewAdmin: {"waiting": [ReviewLine(head="seen as staff")]},
        PlanAdmin: {"search": "seen as staff"},
        AuditAdmin: {"newer": "seen as staff"},
    }
    pages = {page for page in Visitor.get_substates() if '_enter("' in inspect.getsource(page)}
    assert pages == set(shown), "a page for the staff that this test does not know"
    async with kept.modify_state(BaseStateToken(ident="tab", cls=rx.State)) as state:
        await give(state, "session")
        await take_back(state, "admin")
        for page, fields in shown.items():
            for name, value in fields.items():
                setattr(await state.get_state(page), name, value)
        await take_back(state, "user")
        assert "seen as staff" not in str(state.dict())
    await kept.close()


async def test_a_state_that_cannot_be_written_is_emptied_in_the_next_round(start_parley: StartParley) -> None:
    running = await start_parley()
    await person(running)
    tokens = [await running.accounts.sign_in("ada@example.org", PASSWORD) for _ in range(2)]
    app = chat_app.chat_app.app
    RegistrationContext.set(app._registration_context)
    kept, namespace = MemoryStates(), PageNamespace("/_event", app)  # type: ignore[abstract]
    for tab, token in zip(("first", "second"), tokens, strict=True):
        namespace.tabs[tab] = digest(token)
        async with kept.modify_state(BaseStateToken(ident=tab, cls=rx.State)) as state:
            await give(state, digest(token))
        await running.accounts.sign_out(token)
    failing = ["first"]

    class Away:
        """States in a store that is away once as the first one is written."""

        @asynccontextmanager
        async def modify_state(self, token: BaseStateToken) -> AsyncIterator[Any]:
            async with kept.modify_state(token) as state:
                yield state
                if token.ident in failing:
                    failing.remove(token.ident)
                    raise ConnectionError

    await drop_ended(namespace, Away())
    assert namespace.tabs.keys() == {"first"}  # And the one behind it is done.
    await drop_ended(namespace, Away())
    assert not namespace.tabs and not failing
    await kept.close()


async def test_a_tab_that_is_somebody_elses_by_now_is_left_alone(start_parley: StartParley) -> None:
    running = await start_parley()
    await person(running)
    gone = await running.accounts.sign_in("ada@example.org", PASSWORD)
    app = chat_app.chat_app.app
    RegistrationContext.set(app._registration_context)
    kept, namespace = MemoryStates(), PageNamespace("/_event", app)  # type: ignore[abstract]
    namespace.tabs["tab"] = digest(gone)
    async with kept.modify_state(BaseStateToken(ident="tab", cls=rx.State)) as state:
        await give(state, "another")
        (await state.get_state(Chat)).dialog_title = KEPT[1]
    await running.accounts.sign_out(gone)
    await drop_ended(namespace, kept)
    assert KEPT[1] in str(kept.states["tab"].dict())
    await kept.close()


async def test_a_state_of_nobody_is_let_go_while_one_of_somebody_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "NOBODY_S", 0.05)
    kept = MemoryStates()  # type: ignore[abstract]
    RegistrationContext.set(chat_app.chat_app.app._registration_context)
    mine, nobodys = (BaseStateToken(ident=name, cls=rx.State) for name in ("mine", "nobodys"))
    async with kept.modify_state(mine) as state:
        (await state.get_state(Owner))._session = "a"
    async with kept.modify_state(nobodys):
        await asyncio.sleep(0.2)
        assert kept.states.keys() == {"mine", "nobodys"}  # Not while somebody works on it.
    for _ in range(100):
        if "nobodys" not in kept.states:
            break
        await asyncio.sleep(0.05)
    assert kept.states.keys() == {"mine"}
    assert kept._token_expires_at.keys() == {"mine"}
    await kept.close()
