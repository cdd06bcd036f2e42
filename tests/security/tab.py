"""A page's socket without a page: whatever a client sends, and everything that comes back."""

import json
from itertools import count
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
from reflex_base.utils.format import format_event_handler

from chat_app.ui.state.visitor import Visitor
from tests.app import RunningApp

NAMESPACE = "/_event"
QUIET_S = 15
ADDRESSES = (f"127.1.{number // 250}.{number % 250 + 1}" for number in count())
"""Addresses of this machine, another one for each socket that does not say which."""
ECHOES = count()
UPDATE_VARS = "reflex___state____state.reflex___state____update_vars_internal_state.update_vars_internal"
TZ = f"{Visitor.get_full_name()}.tz_rx_state_"


class Refused(Exception):
    """The server did not let the socket in."""


def named(event: Any) -> str:
    """An event's name, as a client calls it; a text is one already."""
    return event if isinstance(event, str) else str(format_event_handler(event))


def boot(path: str = "/") -> dict[str, Any]:
    """What a page sends as it connects."""
    return {
        "name": "reflex___state____state.hydrate_and_load",
        "payload": {"vars": {TZ: "Europe/Paris"}},
        "router_data": {"pathname": path, "asPath": path, "query": {}},
    }


class Tab:
    """An open socket of `token`'s tab. `cookie` as in a header, empty for nobody's. `seen` is all that came, as text.

    It opens with the event of a page, unless `auth` is something else; None for nothing. `source` is
    the network address that it comes from.
    """

    def __init__(
        self,
        app: RunningApp,
        cookie: str = "",
        *,
        path: str = "/",
        token: str = "",
        auth: Any = ...,
        source: str = "",
    ) -> None:
        self.app, self.token, self.path = app, token or str(uuid4()), path
        self.seen = ""
        self.state: dict[str, dict[str, Any]] = {}
        self._auth = {"event": boot(path)} if auth is ... else auth
        self._headers = {"Cookie": cookie} if cookie else {}
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(source or next(ADDRESSES), 0)))

    async def __aenter__(self) -> Self:
        url = f"ws://127.0.0.1:{self.app.port}/_event/?token={self.token}&EIO=4&transport=websocket"
        try:
            self._socket = await self._http.ws_connect(url, headers=self._headers)
            await self._next()  # Engine.IO's own greeting.
            await self.raw(f"40{NAMESPACE},{'' if self._auth is None else json.dumps(self._auth)}")
            while not (answer := await self._next()).startswith(f"40{NAMESPACE}"):
                if not answer.startswith("42"):
                    raise Refused(answer)
        except (aiohttp.ClientError, Refused) as error:
            await self._http.close()
            raise Refused(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._http.close()

    async def raw(self, frame: str | bytes) -> None:
        await (self._socket.send_str(frame) if isinstance(frame, str) else self._socket.send_bytes(frame))

    async def send(self, event: Any, router_data: Any = ..., **payload: Any) -> None:
        """Send an event, arguments by name."""
        where = {"pathname": self.path, "asPath": self.path, "query": {}} if router_data is ... else router_data
        sent = {"name": named(event), "payload": payload, "router_data": where}
        await self.raw(f"42{NAMESPACE},{json.dumps(['event', sent])}")

    async def until(self, text: str) -> str:
        """Everything that comes until something has `text` in it. Raises `AssertionError` if nothing does."""
        came = ""
        while text not in came:
            if not (frame := await self._next()):
                raise AssertionError(f"the server closed the socket; no {text!r} in {came!r}")
            came += frame
        return came

    async def opened(self) -> str:
        """What comes until the page's events on opening are over. A chat's page then looks for models: one that leaves
        before may leave a lock behind it in Valkey, for which its next socket waits ten seconds."""
        came = await self.until('"is_hydrated_rx_state_":true')
        signed_in = self._headers and self.path == "/" and "_redirect" not in self.seen
        while signed_in and '"models_rx_state_":["' not in self.seen:
            came += await self._next()
        return came

    async def echo(self) -> str:
        """What comes until everything that was sent before has been done: the answer to one more event."""
        word = f"echo-{next(ECHOES)}"
        await self.send(UPDATE_VARS, vars={TZ: word})
        return await self.until(word)

    async def closed(self) -> bool:
        """Whether the server ends the socket."""
        while await self._next():
            pass
        return True

    async def _next(self) -> str:
        """The next frame; nothing once the socket is closed. Pings are answered."""
        while True:
            try:
                message = await self._socket.receive(QUIET_S)
            except TimeoutError:
                raise AssertionError(f"nothing more came after …{self.seen[-2_000:]}") from None
            if message.type is not aiohttp.WSMsgType.TEXT:
                return ""
            text = str(message.data)
            if text == "2":
                await self.raw("3")
                continue
            self.seen += text
            return text
