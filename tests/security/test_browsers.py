"""Browser sessions over the pages' own socket: the password asked for again, sessions ended from another one."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext

import asyncpg
import pytest

from chat_app.accounts.cookies import token_from
from chat_app.accounts.tokens import digest
from chat_app.ui.state.account import Account
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.visitor import SESSION_ENDED
from tests.app import PASSWORD, RunningApp
from tests.security.tab import Tab

pytestmark = pytest.mark.e2e

KEY = r"sk-parley-[\w-]{43}"


@pytest.fixture(scope="module")
def other(app: RunningApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Another replica where there can be one, else the same process."""
    fleet = "PARLEY_REDIS_URL" in app.env
    home = tmp_path_factory.mktemp("replica") / "home"
    with RunningApp(home, env=app.env) if fleet else nullcontext(app) as running:
        yield running


async def outdate(app: RunningApp) -> None:
    """As if nobody had shown a password for a long time."""
    update = "UPDATE browser_session SET proved_at = 1"
    if url := app.env.get("PARLEY_DATABASE_URL"):
        connection = await asyncpg.connect(url)
        await connection.execute(update)
        await connection.close()
        return
    with closing(sqlite3.connect(app.home / "parley.db", timeout=30)) as file:
        file.execute(update)
        file.commit()


def email_of(app: RunningApp, cookie: str) -> str:
    return str(json.loads(app.request("GET", "/auth/session", Cookie=cookie)[2])["user"]["email"])


def session_id(cookie: str) -> str:
    return digest(token_from(cookie) or "")


async def test_a_key_is_made_only_once_the_password_was_shown(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    await outdate(app)
    async with Tab(app, cookie, path="/account") as tab:
        await tab.opened()
        await tab.send(Account.make_key, form={"name": "script"})
        assert not re.search(KEY, await tab.until("make this key"))
        await tab.send(Proof.confirm, form={"password": "not it at all"})
        await tab.until("The password is not right.")
        await tab.send(Proof.confirm, form={"password": PASSWORD})
        told = await tab.until("parley:key")
        [key] = re.findall(KEY, told)
        assert app.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0] != 401
        await tab.send(Account.make_key, form={"name": "another"})  # Not asked for again so soon.
        await tab.until("parley:key")
        assert PASSWORD not in tab.seen


async def test_a_role_is_changed_only_once_the_password_was_shown(
    app: RunningApp, person: Callable[[str], str]
) -> None:
    eve = person("eve")
    user = json.loads(app.request("GET", "/auth/session", Cookie=eve)[2])["user"]
    admin = app.sign_in("ada@example.org")
    await outdate(app)

    def role() -> str:
        return str(json.loads(app.request("GET", "/auth/session", Cookie=eve)[2])["user"]["role"])

    async with Tab(app, admin, path="/admin/plans") as tab:
        await tab.opened()
        await tab.send(PlanAdmin.set_role, user_id=user["id"], role="staff")
        await tab.until("change this person's role")
        await tab.echo()
        assert role() == "user"
        await tab.send(Proof.cancel)
        await tab.send(Proof.confirm, form={"password": PASSWORD})
        await tab.echo()
        assert role() == "user"
        await tab.send(PlanAdmin.set_role, user_id=user["id"], role="staff")
        await tab.until("change this person's role")
        await tab.send(Proof.confirm, form={"password": PASSWORD})
        await tab.until('"role":"staff"')
        assert role() == "staff"


async def test_a_page_loses_its_session_on_every_replica_when_another_browser_ends_it(
    app: RunningApp, other: RunningApp, person: Callable[[str], str]
) -> None:
    here = person("grace")
    email = email_of(app, here)
    there = app.sign_in(email)
    async with Tab(app, here, path="/account") as account, Tab(other, there, path="/account") as tab:
        await account.opened()
        await tab.opened()
        assert email in tab.seen and session_id(there) in account.seen
        await account.send(Account.end_session, session_id=session_id(there))
        await account.until("That browser is signed out.")
        assert "/login" in await tab.until(SESSION_ENDED)
        await tab.send(Account.make_key, form={"name": "script"})
        assert not re.search(KEY, await tab.echo())
    async with Tab(other, there, path="/account", token=tab.token) as again:
        await again.opened()
        await again.echo()
    assert email not in again.seen
    assert b'"user":null' in other.request("GET", "/auth/session", Cookie=there)[2].replace(b" ", b"")


async def test_nobody_ends_the_session_of_somebody_else(app: RunningApp, person: Callable[[str], str]) -> None:
    grace, eve = person("grace"), person("eve")
    async with Tab(app, eve, path="/account") as tab:
        await tab.opened()
        await tab.send(Account.end_session, session_id=session_id(grace))
        await tab.send(Account.end_other_sessions)
        await tab.until("No other browser was signed in.")
    assert email_of(app, grace)


async def test_where_somebody_came_from_is_not_on_the_page(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    form = {"email": email_of(app, cookie), "password": PASSWORD}
    agent = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0 <b>odd</b>"
    assert app.request("POST", "/auth/login", form, **{"User-Agent": agent})[0] == 303
    async with Tab(app, cookie, path="/account") as tab:
        await tab.opened()
    assert "Firefox on Windows" in tab.seen
    assert "127.0.0.1" not in tab.seen.replace(f"127.0.0.1:{app.port}", "") and "odd" not in tab.seen
