"""How many pages one address may hold open, how much they may send, and how much may wait for them: counted before
anything is read.

Plain ASGI around everything; it looks at sockets alone. It does not know what a message says.
"""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.limits.memory import MemoryLimits
from chat_app.settings import Settings
from chat_app.telemetry.metrics import SOCKET_REFUSED
from chat_app.ui.guard.outbox import OUTBOX, Outboxes
from chat_app.ui.guard.wire import reset
from chat_app.wiring import Parley

ADDRESS = "parley.address"
"""Where the scope says from which network address a socket comes."""
PER_PAGE = 60
"""Messages a minute for each page that an address may hold open; ten for each may come at once."""
LEAST_BYTES = 128 * 1024
MOST_HEADERS = 32 * 1024
"""Bytes of a request for a socket, its address and headers: as many as nginx lets through. They are kept for as long as
the socket is open, by all who have a part in it."""
READ = {"host", "origin", "cookie", "user-agent", "upgrade", "connection", "x-forwarded-for", "x-forwarded-proto"}
"""The headers of such a request that somebody reads, beside the protocol's own."""

_FRAME = re.compile("[13]|4.")
"""How a page's frames begin (Engine.IO): close, pong, a message that says something."""


def message_chars(max_input_chars: int) -> int:
    """The longest message of a socket: a question fits, each of its characters escaped in JSON."""
    return max(LEAST_BYTES, 2 * max_input_chars + 32 * 1024)


class SocketDoor:
    """Wraps the whole app. `address` finds a caller's network address."""

    def __init__(
        self, app: ASGIApp, get_parley: Callable[[], Parley], address: Callable[[HTTPConnection, Settings], str]
    ) -> None:
        self._app = app
        self._parley = get_parley
        self._address = address
        self._open: Counter[str] = Counter()
        self._outboxes = Outboxes()
        self._messages = MemoryLimits()  # This process's own: a flood must not cost a round trip each.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        if _length(scope) > MOST_HEADERS:
            await _refuse("requests for sockets that are too long", receive, send)
            return
        scope["headers"] = [(name, value) for name, value in scope["headers"] if _is_read(name)]  # Also for the server.
        address = self._address(HTTPConnection(scope), self._parley().settings)
        if not await self._may_open(address):
            await _refuse("sockets of one address", receive, send)
            return
        self._open[address] += 1
        box = self._outboxes.opened(partial(reset, scope))
        OUTBOX.set(box)
        try:
            await self._app({**scope, ADDRESS: address}, self._bounded(receive, address), send)
        finally:
            box.close()
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _may_open(self, address: str) -> bool:
        most = self._parley().settings.pages_per_address
        if self._open[address] >= most:
            return False
        with suppress(LimitsUnavailable):  # Then states are away as well, and no page comes further.
            return not await self._parley().limits.hit(f"page:open-from:{address}", 2 * most)
        return True

    def _bounded(self, receive: Receive, address: str) -> Receive:
        """The same, but whoever sends what no page sends, or too much, has left."""
        settings = self._parley().settings
        longest, pages = message_chars(settings.max_input_chars), settings.pages_per_address

        async def within() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text") or ""
            if not _FRAME.match(text) or len(text) > longest:
                return {"type": "websocket.disconnect", "code": 1008}
            if await self._messages.hit(address, PER_PAGE * pages, 10 * pages):
                SOCKET_REFUSED.labels("messages of one address").inc()
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return within


def _length(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return len(scope["path"]) + len(scope["query_string"]) + headers


def _is_read(name: bytes) -> bool:
    return name.startswith(b"sec-websocket-") or name.decode("latin-1") in READ


async def _refuse(what: str, receive: Receive, send: Send) -> None:
    SOCKET_REFUSED.labels(what).inc()
    await receive()
    await send({"type": "websocket.close", "code": 1013})
