"""The connection to one program: what it is sent, and the word that it is gone.

It knows neither the shape of what is sent nor what a hang-up means for the answer.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from starlette.types import Message, Receive, Send

from chat_app.gateway.edge import TooLarge, TooSlow, bounded

LOOK_AFTER_S = 0.02
"""How long a request runs before anybody looks whether its program is still there: most are over by then."""

SOON_S = 1.0
"""How long what is no longer worth waiting for may take: a body that nobody wants, a last word."""

Pairs = tuple[tuple[bytes, bytes], ...]
"""Headers as ASGI has them, names in lower case."""


class HungUp(Exception):
    """The program closed its connection."""


class Connection:
    """Both directions of one HTTP request. `on_start` is called when its response begins.

    `async with connection`, once the body has been read, ends what runs within as soon as the program is gone, and
    raises `HungUp`, or when `interrupt` is called, and raises that error. The block runs in the request's own task, as
    with `asyncio.timeout`: a short request needs no other. Every send raises `HungUp` where the server says it by an
    `OSError`.
    """

    def __init__(self, receive: Receive, send: Send, on_start: Callable[[], None] | None = None) -> None:
        self._receive = receive
        self._send = send
        self._on_start = on_start
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None
        self._gone = False
        self._interruption: Exception | None = None
        self._asked_for_body = self._has_body = False
        self.status = 0
        """The status that was sent; 0 until then."""

    async def body(self, most: int) -> bytes:
        """The request's body. Raises `TooLarge` beyond `most` bytes, `TooSlow`, and `HungUp` if it ends too soon."""
        self._asked_for_body = True
        receive = bounded(self._receive, most)
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        self._has_body = True
        return b"".join(parts)

    async def emptied(self, length: int | None) -> bool:
        """Whether the connection can serve a next request: nothing of the body is left in it.

        A body of a known `length` that nobody has asked for is read and dropped if it comes soon. Raises `HungUp`.
        """
        if self._has_body or length == 0:
            return True
        if length is None or self._asked_for_body:
            return False
        with suppress(TimeoutError, TooLarge, TooSlow):
            async with asyncio.timeout(SOON_S):
                await self.body(length)
        return self._has_body

    async def start(self, status: int, headers: Pairs) -> None:
        """Send status and headers. Raises `HungUp`."""
        self.status = status
        if self._on_start is not None:
            self._on_start()
        await self._sent({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body, and with `last` its end. Raises `HungUp`."""
        await self._sent({"type": "http.response.body", "body": data, "more_body": not last})

    async def respond(self, status: int, body: bytes, headers: Pairs) -> None:
        """Send a whole response. Raises `HungUp`."""
        await self.start(status, (*headers, (b"content-length", b"%d" % len(body))))
        await self.write(body, last=True)

    def check(self) -> None:
        """Raises `HungUp` if the program is known to be gone, or the error of an interruption: whatever runs may have
        swallowed its cancellation."""
        if self._gone:
            raise HungUp
        if (error := self._interruption) is not None:
            self._interruption = None
            raise error

    def interrupt(self, error: Exception) -> None:
        """End what runs within `async with` now, and raise `error` there."""
        self._interruption = error
        if self._task is not None:
            self._task.cancel()

    async def write_soon(self, last: bytes) -> None:
        """Send the end of the body, unless the program is slower than that is worth. Raises `HungUp`."""
        try:
            async with asyncio.timeout(SOON_S):
                await self.write(last, last=True)
        except TimeoutError:
            raise HungUp from None

    async def _sent(self, message: Message) -> None:
        self.check()
        try:
            await self._send(message)
        except OSError as error:
            raise HungUp from error

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None and self._timer is not None
        self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()
        if not self._gone and self._interruption is None:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            self.check()

    def _look(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        # Whatever goes wrong, such as a body beyond its bounds that nobody reads: from here on nobody would be heard.
        with suppress(Exception):
            while (await self._receive())["type"] != "http.disconnect":
                pass
        assert self._task is not None
        self._gone = True
        self._task.cancel()
