"""The pages' end of the socket, without a socket: who is sent an update, and what is kept of a request."""

import asyncio
from typing import Any

import pytest
import reflex as rx
from reflex.app import EventNamespace
from reflex.event import Event
from reflex.istate.data import RouterData
from reflex.state import StateUpdate
from reflex.utils.token_manager import SocketRecord
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

import chat_app.chat_app
from chat_app.accounts.cookies import cookie_of
from chat_app.ui.guard.door import ADDRESS
from chat_app.ui.guard.events import BOOT, REPORT
from chat_app.ui.guard.namespace import REPORTS, REPORTS_OF_ALL, PageNamespace, Socket
from chat_app.ui.guard.outbox import OUTBOX, Outboxes
from chat_app.ui.guard.owner import Ownership, session_of
from chat_app.ui.guard.states import is_nobodys
from chat_app.ui.sockets import NETWORK_ADDRESS
from chat_app.ui.state.account import Account
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.review_admin import ReviewAdmin, ReviewLine
from tests.parley import PASSWORD, StartParley, person
from tests.ui.tab import page_of

TAB = "01234567-89ab-cdef-0123-456789abcdef"
MINE, ANOTHER = f"parley_session={'m' * 43}", f"parley_session={'a' * 43}"


class Sent(PageNamespace):
    """A namespace whose only page is a note of what it was sent."""

    def __init__(self) -> None:
        super().__init__("/_event", chat_app.chat_app.app)
        self.sent: list[tuple[Any, str]] = []
        self.sid_to_token["sid"] = TAB
        self._token_manager.token_to_socket[TAB] = SocketRecord(instance_id=self._token_manager.instance_id, sid="sid")

    def open(self, cookie: str, *, settled: bool) -> None:
        box = Outboxes().opened(lambda: None)
        self.sockets["sid"] = Socket("192.0.2.7", session_of(cookie), _nowhere, box, settled=settled)

    async def emit(self, event: str, data: Any = None, to: str | None = None, **_: Any) -> None:
        assert to is not None
        self.sent.append((data, to))


async def _nowhere(_: Any) -> None:
    pass


@pytest.fixture
def namespace() -> Sent:
    RegistrationContext.set(chat_app.chat_app.app._registration_context)
    return Sent()


def event_of(cookie: str, *, chained: bool = False) -> Any:
    """The context of an event that came over a socket of this cookie."""
    routed: Any = {"sid": "sid", "headers": {"cookie": cookie}}
    parent = "txid" if chained else None
    return EventContext(token=TAB, state_manager=None, enqueue_impl=None, router_data=routed, parent_txid=parent)  # type: ignore[arg-type]


async def test_an_update_leaves_over_the_socket_of_its_session(namespace: Sent) -> None:
    namespace.open(MINE, settled=True)
    update = StateUpdate(delta={"a": {"b": 1}})
    with event_of(MINE):
        await namespace.emit_update(update, TAB)
    await namespace.emit_update(update, TAB)  # Of no event: `ended` says that the session is over.
    assert namespace.sent == [(update, "sid")] * 2


@pytest.mark.parametrize(
    ("cookie", "settled", "event"),
    [(MINE, False, MINE), (ANOTHER, True, MINE), ("", True, MINE), (MINE, True, ANOTHER), (MINE, True, "")],
)
async def test_it_leaves_over_no_other(cookie: str, settled: bool, event: str, namespace: Sent) -> None:
    """One that took the tab's place meanwhile, or whose first event has not passed: the state may be another's."""
    namespace.open(cookie, settled=settled)
    with event_of(event):
        await namespace.emit_update(StateUpdate(delta={"a": {"b": 1}}), TAB)
    assert namespace.sent == []


async def test_it_leaves_over_none_that_is_not_known(namespace: Sent) -> None:
    with event_of(MINE):
        await namespace.emit_update(StateUpdate(delta={"a": {"b": 1}}), TAB)
    assert namespace.sent == []


async def test_nothing_of_a_request_is_kept_once_its_page_is_connected(
    namespace: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connected(*_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(EventNamespace, "on_connect", connected)
    OUTBOX.set(Outboxes().opened(lambda: None))
    environ = {"QUERY_STRING": f"token={TAB}", "asgi.send": _nowhere, "asgi.scope": {"headers": []}, "HTTP_A": "a"}
    await namespace.on_connect("sid", environ, {"event": {"name": BOOT}})
    assert "sid" in namespace.sockets and environ == {}


async def test_the_log_gets_only_so_many_error_reports(namespace: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    async def run(_: object, sid: str, event: Any) -> None:
        ran.append(event["name"])

    monkeypatch.setattr(EventNamespace, "on_event", run)
    report = {"name": REPORT, "payload": {"info": "a", "component_stack": ""}}
    for at in range(REPORTS_OF_ALL):
        namespace.open(MINE, settled=True)
        namespace.sockets["sid"].address, namespace.sockets["sid"].somebody = f"192.0.2.{at}", True
        for _ in range(REPORTS + 1):
            await namespace.on_event("sid", report)
        assert len(ran) == min(REPORTS * (at + 1), REPORTS_OF_ALL)
    await namespace.on_event("sid", {"name": BOOT, "payload": {}})
    assert ran[-1] == BOOT


async def test_a_change_of_password_counts_against_the_address_of_its_socket(
    namespace: Sent, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start_parley()
    who, said = await person(running), []

    async def change(*_: object, address: str, **__: object) -> None:
        said.append(address)

    monkeypatch.setattr(running.accounts, "change_password", change)
    page = page_of(Account, who, monkeypatch)
    headers = [(NETWORK_ADDRESS.encode(), b"forged"), (b"host", b"localhost")]
    scope = {"client": ("10.0.0.1", 5000), "headers": headers, ADDRESS: "192.0.2.7"}
    sent = namespace._build_static_router_data("sid", {"asgi.scope": scope})
    page.router = RouterData.from_router_data({**sent, "pathname": "/", "asPath": "/", "query": {}})
    await page.change_password({"current": "a", "new": "b", "again": "b"})
    assert said == ["192.0.2.7"]


async def test_who_is_of_the_staff_no_more_keeps_nothing_of_its_pages(
    namespace: Sent, start_parley: StartParley
) -> None:
    running = await start_parley()
    await person(running)
    staff = await person(running, "staff@example.org", "staff")
    cookie = cookie_of(await running.accounts.sign_in("staff@example.org", PASSWORD))
    root: Any = rx.State(_reflex_internal_init=True)  # type: ignore[call-arg]
    app: Any = type("App", (), {"event_namespace": namespace})

    namespace.open(cookie, settled=False)

    async def event() -> None:
        root._clean()
        with event_of(cookie):
            assert await Ownership().preprocess(app, root, Event(name=BOOT, payload={})) is None

    await event()
    moderation, chat = await root.get_state(ReviewAdmin), await root.get_state(Chat)
    moderation.waiting, moderation._waiting_at = [ReviewLine(head="what somebody wrote")], "there"
    chat.dialog_title = "of their own chat"
    await event()
    assert "what somebody wrote" in str(root.dict())
    assert namespace.staff == {TAB: "staff"}
    await running.accounts.set_role(staff.user_id, "user")
    await event()
    assert "what somebody wrote" not in str(root.dict()) and moderation._waiting_at == ""
    assert root.get_delta()[ReviewAdmin.get_full_name()]["waiting_rx_state_"] == []  # The browser is told so.
    assert chat.dialog_title == "of their own chat"
    assert namespace.staff == {} and TAB in namespace.tabs


@pytest.mark.parametrize(("chained", "kept"), [(True, True), (False, False)])
async def test_what_nobody_left_stays_only_through_what_the_server_chains(
    chained: bool, kept: bool, namespace: Sent, start_parley: StartParley
) -> None:
    await start_parley()
    root: Any = rx.State(_reflex_internal_init=True)  # type: ignore[call-arg]
    (await root.get_state(Chat)).notice = "of nobody"
    app: Any = type("App", (), {"event_namespace": namespace})
    with event_of("", chained=chained):
        await Ownership().preprocess(app, root, Event(name=BOOT, payload={}))
    assert ((await root.get_state(Chat)).notice == "of nobody") is kept


def test_a_state_whose_owner_is_not_at_hand_is_somebodys() -> None:
    """With Valkey only the states of an event are read."""
    root: Any = rx.State(_reflex_internal_init=True)  # type: ignore[call-arg]
    assert is_nobodys(root)
    root.substates.clear()
    assert not is_nobodys(root)
