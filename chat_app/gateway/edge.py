"""What holds for every request to the API and the sign-in routes: an id, a bounded body, and that it is counted.

Plain ASGI, so streams stay streams. Pages and sockets pass untouched. It does not know what a request wants.
"""

import asyncio
import re
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from chat_app.data.ids import new_id
from chat_app.gateway.errors import api_error
from chat_app.telemetry.measured_http import MeasuredHttp

logger = structlog.get_logger(__name__)

MOST_BYTES = {"/v1/chat/completions": 4 * 1024 * 1024, "/v1/": 64 * 1024, "/auth/": 64 * 1024}
"""Largest body under a prefix, the first that fits. A message that is a little too long still fits into a completion,
and gets the clearer refusal that counts characters."""

BODY_S = 30.0
"""Seconds that a body may take from its first part to its last."""
MOST_PARTS = 10_000
"""Parts that a body may come in: each costs as much as the reading of kilobytes."""

_LENGTH_DIGITS = 15
_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class TooLarge(HTTPException):
    """The body is larger than the address takes."""

    def __init__(self) -> None:
        # What was not read of it stands in the way of a next request on this connection.
        super().__init__(413, headers={"Connection": "close"})


class TooSlow(HTTPException):
    """The body takes too long, or comes in too many parts."""

    def __init__(self) -> None:
        super().__init__(408, headers={"Connection": "close"})


class Edge:
    """Wraps the gateway's app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._measured = MeasuredHttp(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = most_bytes(scope["path"]) if scope["type"] == "http" else 0
        if not most:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        started = False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        with bound_contextvars(request_id=request_id.decode()):
            if declared(headers) > most:
                await api_error(TooLarge()).response()(scope, receive, named)
                return
            try:
                await self._measured(scope, bounded(receive, most), named)
            except Exception as error:
                logger.error("unforeseen error", exc_info=error)
                if started:
                    raise
                await api_error(error).response()(scope, receive, named)


def bounded(receive: Receive, most: int) -> Receive:
    """The same, but a body beyond its bounds raises `TooLarge` or `TooSlow`. What comes behind the body has none."""
    taken = parts = 0
    deadline: float | None = None
    over = False

    async def within() -> Message:
        nonlocal taken, parts, deadline, over
        if over:
            return await receive()
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + BODY_S
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise TooSlow from None
        taken, parts = taken + len(message.get("body", b"")), parts + 1
        if taken > most:
            raise TooLarge
        if parts > MOST_PARTS:
            raise TooSlow
        over = not message.get("more_body", False)
        return message

    return within


def most_bytes(path: str) -> int:
    """The largest body that an address takes; 0 where it is none of the gateway's."""
    return next((most for prefix, most in MOST_BYTES.items() if path.startswith(prefix)), 0)


def declared(headers: Mapping[bytes, bytes]) -> int:
    """How many bytes the body is to have, as far as its sender says so; of a number beyond all bounds, some such."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        return 0
    return int(length) if len(length) <= _LENGTH_DIGITS else 10**_LENGTH_DIGITS  # `int` refuses thousands of digits.


def request_id_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The caller's own id for the request if it is one that may stand in logs and headers, or a new one."""
    given = headers.get(b"x-request-id", b"")
    return given if _ID.fullmatch(given) else new_id().encode()
