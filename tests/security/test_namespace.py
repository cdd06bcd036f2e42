"""The pages' end of the socket, without a socket: who is sent an update, and what is kept of a request."""

import asyncio
from typing import Any

import pytest
import reflex as rx
from reflex.app import EventNamespace
from reflex.event import Event
from reflex.state import StateUpdate
from reflex.utils.token_manager import SocketRecord
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

import chat_app.chat_app
from chat_app.ui.guard.events import BOOT
from chat_app.ui.guard.namespace import PageNamespace, Socket
from chat_app.ui.guard.outbox import OUTBOX, Outboxes
from chat_app.ui.guard.owner import Ownership, session_of
from chat_app.ui.guard.states import is_nobodys
from chat_app.ui.state.chat import Chat
from tests.parley import StartParley

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
