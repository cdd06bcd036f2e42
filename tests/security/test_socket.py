"""What a hostile client can do over the pages' socket: nothing that a page could not, and that within bounds."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from chat_app.ui.state.account import Account
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.visitor import SESSION_ENDED, Visitor
from tests.app import RunningApp
from tests.parley import script
from tests.security.conftest import PAGES
from tests.security.tab import NAMESPACE, Refused, Tab, boot, named

pytestmark = pytest.mark.e2e

ROOT = "reflex___state____state"
REPORT = f"{ROOT}.reflex___state____frontend_event_exception_state.handle_frontend_exception"
MARK = "planted-by-a-client"

# What only the server sends, with a word that would be seen if it ran.
OF_THE_SERVER: dict[str, tuple[dict[str, Any], str]] = {
    f"{ROOT}.hydrate": ({}, "may_sign_up"),
    f"{Visitor.get_full_name()}.setvar": ({"var_name": "name", "value": MARK}, "went wrong"),
    named(Visitor.notify): ({"message": MARK}, MARK),
    named(Account.open): ({}, "resets"),
}


@pytest.mark.parametrize("event", OF_THE_SERVER)
async def test_an_event_that_no_page_sends_does_not_run(
    event: str, app: RunningApp, person: Callable[[str], str]
) -> None:
    payload, sign = OF_THE_SERVER[event]
    for cookie in (person("eve"), ""):
        async with Tab(app, cookie) as tab:
            await tab.opened()
            await tab.send(event, **payload)
            assert sign not in await tab.echo()
    with pytest.raises(Refused):
        async with Tab(app, auth={"event": {"name": event, "payload": payload}}):
            pass


@pytest.mark.parametrize("auth", [None, {}, [], "text", {"event": None}, {"event": [boot()]}, {"event": "{}"}])
async def test_a_socket_opens_with_the_event_of_a_page_alone(auth: object, app: RunningApp) -> None:
    with pytest.raises(Refused):
        async with Tab(app, auth=auth):
            pass


@pytest.mark.parametrize("token", ["short", "x" * 36, "0" * 37, "../../../../../../etc/passwd-and-so-on"])
async def test_a_tab_has_the_name_of_a_tab(token: str, app: RunningApp) -> None:
    with pytest.raises(Refused):
        async with Tab(app, token=token):
            pass


async def test_a_report_of_an_error_is_cut_before_anything_searches_it(app: RunningApp) -> None:
    # Reflex's expression backtracks over each `", ` of this: 23,680 bytes took it 4.8 s.
    hostile = ("TypeError: can't access property \"" + '", ' * 30) * 190
    async with Tab(app, path="/login") as tab:
        await tab.opened()
        await tab.send(REPORT, info=f"{hostile}{MARK}", component_stack=MARK)
        await tab.raw(f"42{NAMESPACE},{json.dumps(['client_error', {'message': hostile + MARK, 'substate': [MARK]}])}")
        await tab.send(REPORT, info="an honest report", component_stack="")
        await tab.echo()
    logged = app.output()
    lengths = [int(length) for length in re.findall(r"\[(\d+) characters\]", logged)]  # As logs have what they cut.
    assert lengths and max(lengths) < 1_200
    assert MARK not in logged
    assert "an honest report" in logged


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (Chat.ask_rename, {"thread_id": "t", "title": MARK}),
        (Chat.ask_delete, {"thread_id": "t", "title": MARK}),
        (Account.ask_revoke, {"key_id": MARK}),
        (PlanAdmin.edit, {"plan_id": MARK}),
        (Chat.send, {"form": {"text": MARK}}),
    ],
)
async def test_nobody_leaves_a_text(event: Any, payload: dict[str, Any], app: RunningApp) -> None:
    async with Tab(app, path="/login") as tab:
        await tab.opened()
        await tab.send(event, **payload)
        assert SESSION_ENDED in await tab.until("giveBack")
    async with Tab(app, path="/login", token=tab.token) as again:
        await again.opened()
    assert MARK not in tab.seen + again.seen


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (Chat.ask_rename, {"thread_id": "t" * 65, "title": MARK}),
        (Chat.ask_rename, {"thread_id": 7, "title": MARK}),
        (Chat.ask_rename, {"thread_id": "t", "title": [MARK]}),
        (Chat.ask_rename, {"thread_id": "t", "title": MARK + "!" * 200}),
        (Chat.ask_rename, {"thread_id": "t", "title": MARK, "more": 1}),
        (Chat.ask_delete, {"thread_id": {"t": 1}, "title": MARK}),
        (Account.ask_revoke, {"key_id": [MARK]}),
        (Account.ask_revoke, {"key_id": MARK + "!" * 64}),
        (PlanAdmin.edit, {"plan_id": None}),
        (Account.make_key, {"form": {"name": MARK + "!" * 200}}),
        (Account.make_key, {"form": {"name": {"text": MARK}}}),
        (Account.make_key, {"form": [["name", MARK]]}),
        (Account.make_key, {"form": {f"name{at}": MARK for at in range(40)}}),
        (Chat.choose_model, {"model": MARK * 20}),
    ],
)
async def test_an_argument_beyond_its_bounds_reaches_nobody(
    event: Any, payload: dict[str, Any], app: RunningApp, person: Callable[[str], str]
) -> None:
    cookie = person("eve")
    async with Tab(app, cookie) as tab:
        await tab.opened()
        await tab.send(event, **payload)
        await tab.echo()
    async with Tab(app, cookie, path="/account", token=tab.token) as again:
        await again.opened()
    assert MARK not in tab.seen + again.seen
    assert '"keys_rx_state_":[]' in again.seen


async def test_a_question_that_is_too_long_is_given_back_with_the_reason(
    app: RunningApp, person: Callable[[str], str]
) -> None:
    async with Tab(app, person("eve")) as tab:
        await tab.opened()
        await tab.send(Chat.send, form={"__reflex_form_data__": [["text", "a" * 32_001]]})
        assert "32,001 characters; at most 32,000" in await tab.until("characters")
        await tab.send(Chat.send, form={"__reflex_form_data__": [["text", '\n"' * 16_000]]})
        assert "accepted" in await tab.until("accepted")


@pytest.mark.parametrize(
    "where",
    [
        {"pathname": "/" + MARK * 200},
        {"pathname": [MARK]},
        {"asPath": {"a": MARK}},
        {"query": [MARK]},
        {"query": {f"{at}": MARK for at in range(50)}},
        {"query": {"a": {"b": MARK}}},
        [MARK],
        {"headers": {"cookie": MARK}, MARK: MARK, "ip": MARK, "token": MARK, "sid": MARK},
    ],
)
async def test_of_where_a_page_is_only_an_address_is_kept(
    where: Any, app: RunningApp, person: Callable[[str], str]
) -> None:
    async with Tab(app, cookie := person("eve")) as tab:
        await tab.opened()
        await tab.send(Chat.close_dialog, router_data=where)
        await tab.echo()
    async with Tab(app, cookie, token=tab.token) as again:
        await again.opened()
    assert MARK not in tab.seen + again.seen


@pytest.mark.parametrize(
    "frame",
    [
        f'42{NAMESPACE},["connect",{{"QUERY_STRING":"token={"0" * 36}"}},{{}}]',
        f'42{NAMESPACE},["disconnect","because"]',
        f'42{NAMESPACE},["event",{{}},{{}}]',
        f"42{NAMESPACE},{{}}",
        f'42{NAMESPACE},7["event",{{}}]',
        f"42{NAMESPACE},[",
        f"42{NAMESPACE},{'[' * 60_000}",
        f'452-{NAMESPACE},["event",{{"_placeholder":true,"num":0}}]',
        f'43{NAMESPACE},1["acknowledged"]',
        '42["event",{}]',
        b"\x04attachment",
        "4",
        "5",
        "9",
        "hello",
        "4" + "a" * 131_073,
    ],
    ids=lambda frame: str(frame[:20]),
)
async def test_what_no_page_sends_ends_the_connection(frame: str | bytes, app: RunningApp) -> None:
    async with Tab(app, path="/login") as tab:
        await tab.opened()
        await tab.raw(frame)
        assert await tab.closed()
    assert "Traceback" not in app.output()


async def test_a_page_works(app: RunningApp, person: Callable[[str], str]) -> None:
    async with Tab(app, person("grace")) as tab:
        assert "Grace" in await tab.opened()
        await tab.send(Chat.send, form={"__reflex_form_data__": [["text", script(text="It is 391.")]]})
        came = await tab.until('"receipt":[{')
        assert "accepted" in came and "It is 391." in came


async def test_one_address_holds_only_so_many_pages_open(app: RunningApp) -> None:
    tabs = [Tab(app, path="/login", source="127.0.0.2") for _ in range(PAGES)]
    for tab in tabs:
        await tab.__aenter__()
    with pytest.raises(Refused):
        async with Tab(app, path="/login", source="127.0.0.2"):
            pass
    async with Tab(app, path="/login", source="127.0.0.3") as elsewhere:
        await elsewhere.opened()
    await tabs.pop().__aexit__(None, None, None)
    async with Tab(app, path="/login", source="127.0.0.2") as next_one:
        await next_one.opened()
    for tab in tabs:
        await tab.__aexit__(None, None, None)


async def test_one_address_opens_pages_only_so_often(app: RunningApp) -> None:
    opened = 0
    with pytest.raises(Refused):
        for _ in range(4 * PAGES):
            async with Tab(app, path="/login", source="127.0.0.4"):
                opened += 1
    assert 2 * PAGES <= opened < 4 * PAGES


async def test_nobody_sends_only_so_many_events_from_one_address(app: RunningApp) -> None:
    async with Tab(app, path="/login", source="127.0.0.5") as tab:
        await tab.opened()
        for _ in range(4 * PAGES):
            await tab.send(f"{ROOT}.reflex___state____on_load_internal_state.on_load_internal")
        await tab.raw(f'42{NAMESPACE},["ping"]')
        await tab.until("pong")
    assert 'parley_socket_refused_total{what="events of one address"}' in metrics(app)


async def test_a_flood_of_messages_ends_the_connection(app: RunningApp) -> None:
    async with Tab(app, path="/login", source="127.0.0.6") as tab:
        await tab.opened()
        with suppress(ConnectionResetError):  # The server may be quicker than the flood.
            for _ in range(11 * PAGES):
                await tab.raw(f'42{NAMESPACE},["ping"]')
        assert await tab.closed()
    async with Tab(app, path="/login", source="127.0.0.7") as elsewhere:
        await elsewhere.opened()


async def test_one_person_sends_only_so_many_events(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("eve")
    async with Tab(app, cookie) as tab, Tab(app, cookie) as another, Tab(app, person("grace")) as honest:
        for each in (tab, another, honest):
            await each.opened()
        for _ in range(70):
            await tab.send(Visitor.close_notice)
            await another.send(Visitor.close_notice)
        await tab.until("That was too much at once")
        assert "too much" not in await honest.echo()


def metrics(app: RunningApp) -> str:
    return app.metrics()
