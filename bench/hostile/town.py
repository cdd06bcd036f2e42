"""The people of one running Parley: honest ones, and the accounts and the knowledge of hostile ones."""

import json
import re
import urllib.request
from dataclasses import dataclass
from uuid import uuid4

from reflex.state import FrontendEventExceptionState, OnLoadInternalState, State, UpdateVarsInternalState

from bench.hostile.crowd import Target
from bench.hostile.honest import Person
from chat_app.settings import Settings
from chat_app.ui.guard.events import name_of
from chat_app.ui.state.account import Account
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.visitor import Visitor
from tests.app import RunningApp
from tests.parley import script
from tests.security.tab import Tab

ON_PAGES, WITH_PROGRAMS, HOSTILE = 3, 3, 8
EVENTS = {
    "boot": name_of(State.hydrate_and_load),
    "hydrate": name_of(State.hydrate),
    "on_load": name_of(OnLoadInternalState.on_load_internal),
    "update_vars": name_of(UpdateVarsInternalState.update_vars_internal),
    "report": name_of(FrontendEventExceptionState.handle_frontend_exception),
    "notify": name_of(Visitor.notify),
    "setvar": f"{Visitor.get_full_name()}.setvar",
    "open": name_of(Account.open),
    "ask_revoke": name_of(Account.ask_revoke),
    "make_key": name_of(Account.make_key),
    "find": name_of(PlanAdmin.find),
    **{
        name: name_of(getattr(Chat, name))
        for name in ("send", "regenerate", "stop", "load_earlier", "list_older", "ask_rename", "ask_delete")
    },
}
_FREE = "free"
_KEY = re.compile(r"sk-parley-[\w-]{43}")
_GENERATION = re.compile(r'"generation_id":"([0-9a-f]{32})"')


@dataclass(slots=True)
class Town:
    """Everybody."""

    on_pages: list[Person]
    with_programs: list[Person]
    target: Target


async def settle(app: RunningApp) -> Town:
    """Make the accounts: honest people without a monthly limit, hostile ones on the free plan."""
    marker = f"quill{uuid4().hex[:8]}"
    app.sign_up("ada@example.org")
    admin = app.api_key("ada@example.org", admin=True)
    honest = []
    for number in range(ON_PAGES + WITH_PROGRAMS + 1):
        email = f"{marker}-{number}@example.org"
        cookie = app.sign_up(email, name=f"{marker} {number}")
        honest.append(Person(app, email, f"127.2.0.{1 + number}", marker, cookie))
    people = _api(app, admin, "/v1/admin/users?limit=500")["data"]
    for each in people:
        if each["email"].startswith(marker):
            _api(app, admin, f"/v1/admin/users/{each['user_id']}/plan", {"plan": "enterprise"})
    hostile = [app.sign_up(f"eve-{number}@example.org") for number in range(HOSTILE)]
    keys = [await new_key(app, cookie) for cookie in hostile]
    victim, others = honest[-1], honest[:-1]
    for each in honest[ON_PAGES:]:
        each.key = await new_key(app, each.cookie)
    tabs, generations = await _left_open(app, victim)
    await victim.sign_in()  # In another browser: the first session stays.
    ended, _ = await _left_open(app, victim)
    app.request("POST", "/auth/logout", {}, Cookie=victim.cookie)
    target = Target(
        port=app.port,
        parts=[],
        seconds=0,
        clients=0,
        net=10,
        marker=marker,
        events=EVENTS,
        pages_per_address=Settings.model_fields["pages_per_address"].default,
        asset=_largest(app),
        cookies=hostile,
        keys=keys,
        former=victim.cookie,
        emails=[each.email for each in honest],
        tabs=[*tabs, *ended],
        generations=generations,
    )
    return Town(others[:ON_PAGES], others[ON_PAGES:], target)


async def new_key(app: RunningApp, cookie: str) -> str:
    """A new API key, made on the account's page."""
    async with Tab(app, cookie, path="/account") as tab:
        await tab.opened()
        await tab.send(Account.make_key, form={"name": "script"})
        return _KEY.findall(await tab.until("parley:key"))[0]


async def _left_open(app: RunningApp, person: Person) -> tuple[list[str], list[str]]:
    """Tabs in which a person has read everything of theirs, and the ids of their answers."""
    async with Tab(app, person.cookie) as tab:
        await tab.opened()
        await tab.send(Chat.send, form={"text": script(text=person.said()[1])})
        await tab.until('"receipt":[{')
    async with Tab(app, person.cookie, path="/account") as account:
        await account.opened()
    return [tab.token, account.token], sorted(set(_GENERATION.findall(tab.seen)))


def _api(app: RunningApp, key: str, path: str, body: object = None) -> "dict[str, list[dict[str, str]]]":
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{app.port}{path}", data, headers), timeout=20
    ) as response:
        found: dict[str, list[dict[str, str]]] = json.loads(response.read())
        return found


def _largest(app: RunningApp) -> str:
    """The path of the largest script that the first page names."""
    page = app.request("GET", "/login")[2].decode()
    paths = sorted(set(re.findall(r'"(/assets/[^"]+\.js)"', page)))
    return max(paths, key=lambda path: len(app.request("GET", path)[2]))
