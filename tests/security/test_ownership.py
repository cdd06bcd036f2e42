"""Whose a tab's state is: nobody who only knows the tab's name sees any of it, and no secret stays in it."""

import json
import re
from collections.abc import Callable

import pytest

from chat_app.ui.state.account import Account
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.visitor import SESSION_ENDED
from tests.app import PASSWORD, RunningApp
from tests.parley import script
from tests.security.tab import Tab

pytestmark = pytest.mark.e2e

SECRET = "what-nobody-else-shall-read"


async def filled(app: RunningApp, cookie: str) -> Tab:
    """A tab, now closed, in which a person has read everything that is their own."""
    async with Tab(app, cookie) as tab:
        await tab.opened()
        await tab.send(Chat.send, form={"text": script(text=SECRET)})
        await tab.until('"receipt":[{')
        await tab.send("reflex___state____state.reflex___state____on_load_internal_state.on_load_internal")
        await tab.opened()
    async with Tab(app, cookie, path="/account", token=tab.token) as account:
        await account.opened()
    assert SECRET in tab.seen and "@example.org" in tab.seen
    return tab


def session(app: RunningApp, cookie: str) -> dict[str, str] | None:
    user: dict[str, str] | None = json.loads(app.request("GET", "/auth/session", Cookie=cookie)[2])["user"]
    return user


async def sees_nothing(app: RunningApp, cookie: str, token: str, path: str = "/") -> None:
    """What a socket of this cookie is sent of the tab: nothing of its person."""
    async with Tab(app, cookie, path=path, token=token) as tab:
        await tab.opened()
        await tab.send(Chat.regenerate)
        await tab.echo()
    for kept in (SECRET, "grace-", "Grace"):
        assert kept not in tab.seen


async def test_a_tab_is_found_again_by_its_own_session(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    tab = await filled(app, cookie)
    async with Tab(app, cookie, token=tab.token) as again:
        assert SECRET in await again.opened()


@pytest.mark.parametrize("whose", ["nobody", "another person", "the old cookie"])
async def test_after_signing_out_the_tab_is_empty(whose: str, app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    tab = await filled(app, cookie)
    assert app.request("POST", "/auth/logout", {}, Cookie=cookie)[0] == 303
    await sees_nothing(app, {"nobody": "", "the old cookie": cookie}.get(whose) or "", tab.token)
    if whose == "another person":
        await sees_nothing(app, person("eve"), tab.token)


@pytest.mark.parametrize("whose", ["nobody", "another person"])
async def test_a_tab_whose_session_is_in_force_is_for_it_alone(
    whose: str, app: RunningApp, person: Callable[[str], str]
) -> None:
    cookie = person("grace")
    tab = await filled(app, cookie)
    await sees_nothing(app, "" if whose == "nobody" else person("eve"), tab.token)


async def test_a_disabled_person_sees_nothing(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    tab = await filled(app, cookie)
    user = session(app, cookie)
    assert user is not None
    app.command("users", "disable", "--email", user["email"])
    await sees_nothing(app, cookie, tab.token)


async def test_a_changed_password_empties_the_tabs_of_other_browsers(
    app: RunningApp, person: Callable[[str], str]
) -> None:
    user = session(app, cookie := person("grace"))
    assert user is not None
    elsewhere = app.sign_in(user["email"])
    tab = await filled(app, elsewhere)
    async with Tab(app, cookie, path="/account") as account:
        await account.opened()
        form = {"current": PASSWORD, "new": "a whole new secret", "again": "a whole new secret"}
        await account.send(Account.change_password, form=form)
        await account.until("The password is changed")
        await sees_nothing(app, elsewhere, tab.token)
        await account.send(Account.ask_revoke, key_id="k")  # This one goes on.
        await account.until('"revoking_rx_state_":"k"')


async def test_an_answer_that_is_written_goes_to_nobody_elses_socket(
    app: RunningApp, person: Callable[[str], str]
) -> None:
    async with Tab(app, person("grace")) as tab:
        await tab.opened()
        await tab.send(Chat.send, form={"text": script(text=f"{SECRET} " * 400, rate=100)})
        await tab.until(SECRET)
        async with Tab(app, token=tab.token) as beside:
            await beside.opened()
    async with Tab(app, token=tab.token) as instead:
        await instead.opened()
        for _ in range(20):
            await instead.echo()
    assert SECRET not in beside.seen + instead.seen


async def test_a_new_key_is_told_once_and_kept_nowhere(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    async with Tab(app, cookie, path="/account") as tab:
        await tab.opened()
        await tab.send(Account.make_key, form={"name": "script"})
        told = await tab.until("parley:key")
    [key] = re.findall(r"sk-parley-[\w-]{43}", told)
    assert app.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0] == 200
    assert told.count(key) == 1
    async with Tab(app, cookie, path="/account", token=tab.token) as again:
        await again.opened()
        await again.echo()
    assert '"name":"script"' in again.seen
    assert key not in again.seen


async def test_a_page_that_lies_open_hears_that_its_session_has_ended(
    app: RunningApp, person: Callable[[str], str]
) -> None:
    cookie = person("grace")
    async with Tab(app, cookie) as tab, Tab(app, person("eve")) as other:
        await tab.opened()
        await other.opened()
        app.request("POST", "/auth/logout", {}, Cookie=cookie)
        assert "/login" in await tab.until(SESSION_ENDED)
        assert SESSION_ENDED not in await other.echo()
