"""The pages' end of the socket: it takes only events that a page may send, and sends only to whom a state belongs.

Reflex's own takes any event of any state from anybody, and sends a state to whoever knows the name of its tab (the
token in the socket's address). Events that the server chains itself never pass here.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from reflex.app import EventNamespace
from reflex.event import Event
from reflex.state import StateUpdate
from reflex_base.event.context import EventContext
from socketio import AsyncServer as Server
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused
from starlette.types import Send

from chat_app.accounts.cookies import cookie_of, token_from
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.limits.memory import MemoryLimits
from chat_app.telemetry.metrics import SOCKET_REFUSED
from chat_app.ui.guard import message
from chat_app.ui.guard.arguments import Refused
from chat_app.ui.guard.door import ADDRESS
from chat_app.ui.guard.events import BOOT, NOTIFY, REPORT
from chat_app.ui.guard.outbox import Outbox, current
from chat_app.ui.guard.owner import session_of
from chat_app.ui.sockets import NETWORK_ADDRESS
from chat_app.ui.state.chat import GIVE_BACK
from chat_app.wiring import parley

_TAB = re.compile(r"[0-9a-f-]{36}")
"""The name that a page gives to its tab, a UUID."""
_REPORT = ("error_type", "message", "substate")
REPORT_CHARS = 500
REPORTS, REPORTS_OF_ALL = 5, 20
"""Error reports a minute that go into the log, of one address and of all: as many as Reflex lets through of those that
it has as messages of their own."""
HEADER_CHARS = 300
MOST_TABS = 20_000
"""Tabs whose session is watched; beyond that the longest quiet ones are not."""


@dataclass(slots=True)
class Socket:
    """An open socket. `session` is the digest of its cookie, or empty; whether that is in force is asked anew with each
    event. `settled`: an event of it has passed, so the state of its tab is its session's own. `somebody`: it was
    signed in then."""

    address: str
    session: str
    send: Send
    outbox: Outbox
    opened: bool = False
    settled: bool = False
    somebody: bool = False

    async def close(self) -> None:
        """Close the connection, if it is open still."""
        with suppress(Exception):
            await self.send({"type": "websocket.close", "code": 1008})


class PageNamespace(EventNamespace):
    """Reflex's namespace behind bounds."""

    def __init__(self, namespace: str, app: Any) -> None:
        super().__init__(namespace, app)
        self.sockets: dict[str, Socket] = {}
        self._reports = MemoryLimits()  # This process's own, as its log is.
        self._closing: set[asyncio.Task[None]] = set()
        self.tabs: dict[str, str] = {}
        """The session of each tab, open or closed, in which somebody was signed in; see `ended`."""
        self.staff: dict[str, str] = {}
        """The role, at its last event, of whoever of the staff has the tab; of no tab that is not among `tabs`."""

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """A page connects, which it does with its first event. Raises `ConnectionRefused`."""
        tabs = parse_qs(environ.get("QUERY_STRING", "")).get("token", [])
        boot = auth.get("event") if isinstance(auth, dict) else None
        boots = isinstance(boot, dict) and boot.get("name") == BOOT
        if len(tabs) != 1 or not _TAB.fullmatch(tabs[0]) or not boots:
            raise ConnectionRefused
        schema = auth.get("state_schema")
        bounded = {"event": boot, "state_schema": schema if isinstance(schema, str) and len(schema) <= 64 else None}
        headers = self._build_static_router_data(sid, environ)["headers"]
        address = environ.get("asgi.scope", {}).get(ADDRESS, "")
        self.sockets[sid] = Socket(address, session_of(headers.get("cookie", "")), environ["asgi.send"], current())
        try:
            await super().on_connect(sid, environ, bounded)
        except BaseException:
            self.sockets.pop(sid, None)
            raise
        environ.clear()  # Kept for as long as the socket is open, and everything in it has been read.

    def on_disconnect(self, sid: str, reason: str = "") -> "asyncio.Task[None] | None":
        """The page is gone. What says so itself, or sent something else than a page does, is not listened to any more:
        Engine.IO would leave the connection open until its client closes it."""
        socket = self.sockets.pop(sid, None)
        if socket is not None:
            socket.outbox.end_soon()  # To close waits behind what is being sent.
        if socket is not None and reason == Server.reason.CLIENT_DISCONNECT:
            self._closing.add(task := asyncio.create_task(socket.close()))
            task.add_done_callback(self._closing.discard)
        return super().on_disconnect(sid)

    async def on_event(self, sid: str, data: Any = None) -> None:
        """A page sends an event. One that it may not send does nothing."""
        socket = self.sockets.get(sid)
        if socket is None or sid not in self.sid_to_token:
            return
        first, socket.opened = not socket.opened, True  # How often pages open is counted at the door.
        if not first and not socket.somebody and not await self._may_be_nobody(socket):
            SOCKET_REFUSED.labels("events of one address").inc()
            return
        try:
            event = message.read(data)
        except Refused as refused:
            SOCKET_REFUSED.labels("events that no page sends").inc()
            if str(refused):
                await self._tell(sid, data, str(refused))
            return
        if event["name"] == REPORT and await self._is_enough(socket.address):
            SOCKET_REFUSED.labels("error reports").inc()
            return
        await super().on_event(sid, event)

    async def on_ping(self, sid: str, *data: object) -> None:
        await super().on_ping(sid)

    async def on_client_error(self, sid: str, data: Any = None) -> None:
        """A page reports that it could not show something. The text is cut before anything looks at it."""
        if isinstance(data, dict):
            texts = {name: data[name] for name in _REPORT if isinstance(data.get(name), str)}
            await super().on_client_error(sid, {name: text[:REPORT_CHARS] for name, text in texts.items()})

    async def emit_update(self, update: StateUpdate, token: str) -> None:
        """Send to the tab, if its socket is of the session that the event runs for and the state belongs to."""
        record = self._token_manager.token_to_socket.get(token)
        if record is not None and record.instance_id == self._token_manager.instance_id:
            socket = self.sockets.get(record.sid)
            if socket is None or not socket.settled or not _runs_for(socket):
                return
        await super().emit_update(update, token)

    def settle(self, sid: str, *, somebody: bool | None = None, staff: str = "") -> None:
        """The state of this socket's tab is its session's own from here on. `somebody` is None if it is not known
        whether that is in force; `staff` is the person's role if it is one of the staff's."""
        socket, tab = self.sockets.get(sid), self.sid_to_token.get(sid)
        if socket is None or tab is None:
            return
        socket.settled = True
        if somebody is not None:
            socket.somebody = somebody
            self.tabs.pop(tab, None)
            self.staff.pop(tab, None)
        if somebody:
            self.tabs[tab] = socket.session
            if staff:
                self.staff[tab] = staff
            while len(self.tabs) > MOST_TABS:
                self.staff.pop(quiet := next(iter(self.tabs)), None)
                del self.tabs[quiet]

    def _build_static_router_data(self, sid: str, environ: dict[str, Any]) -> dict[str, Any]:
        """What Reflex keeps of a socket's request in the state: of its headers those that somebody reads."""
        built = super()._build_static_router_data(sid, environ)
        headers = built["headers"]
        kept = {name: headers[name][:HEADER_CHARS] for name in ("host", "origin", "user-agent") if name in headers}
        if (token := token_from(headers.get("cookie", ""))) is not None:
            kept["cookie"] = cookie_of(token)
        kept[NETWORK_ADDRESS] = environ.get("asgi.scope", {}).get(ADDRESS, "")
        return {**built, "headers": kept}

    async def _is_enough(self, address: str) -> bool:
        """Whether no more error reports of this address, or of all, go into the log now."""
        return bool(await self._reports.hit(address, REPORTS) or await self._reports.hit("", REPORTS_OF_ALL))

    async def _may_be_nobody(self, socket: Socket) -> bool:
        most = 2 * parley().settings.pages_per_address
        with suppress(LimitsUnavailable):  # Then states are away as well.
            return not await parley().limits.hit(f"page:event-from:{socket.address}", most)
        return True

    async def _tell(self, sid: str, data: object, words: str) -> None:
        """Say on the page why its event did nothing; the composer gets its text back."""
        with suppress(Refused):
            event = {"name": NOTIFY, "payload": {"message": words}, "router_data": message.router_data(data)}
            await super().on_event(sid, event)
            await self.emit_update(StateUpdate(events=Event.from_event_type(GIVE_BACK)), self.sid_to_token[sid])


def _runs_for(socket: Socket) -> bool:
    """Whether the event that is running, if one is, came from the same session as the socket."""
    try:
        headers = EventContext.get().router_data.get("headers")
    except LookupError:
        return True
    return headers is None or session_of(headers.get("cookie", "")) == socket.session
