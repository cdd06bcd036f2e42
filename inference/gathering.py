"""Gathers what a server sends before the HTTP client reads it: several tokens cost one look instead of one each.

For servers that do not gather by themselves. It stands between a connection and its protocol once an answer has begun,
and lets the end through at once, whether that is a finish, an error or a lost connection. Knows the bytes of those and
nothing else of what passes.
"""

import asyncio
from collections.abc import Callable

LONGEST = 32  # Bytes that one of those may have, of which a read may bring only the last.
MOST = 2**18  # Bytes that are held; what sends so much so fast is no tokens.


class Gathering(asyncio.Protocol):
    """Hands `inner` what `transport` receives at most once in `interval()` seconds, until the end comes or `stop` is
    called; from then on the two speak directly."""

    def __init__(self, transport: asyncio.Transport, inner: asyncio.Protocol, interval: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._inner = inner
        self._interval = interval
        self._held: list[bytes] = []
        self._size = 0
        self._last = b""
        self._passed_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def stop(self) -> None:
        """Passes on what is held and stands aside."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)
        self._pass()

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        seen = self._last + data
        if _urgent(seen):
            self.stop()
            return
        self._last = seen[-LONGEST:]
        if self._size > MOST:
            self._pass()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._passed_at + self._interval(), self._pass)

    def eof_received(self) -> bool | None:
        self._pass()
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pass()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _pass(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            held = b"".join(self._held)
            self._held.clear()
            self._size = 0
            self._passed_at = self._loop.time()
            self._inner.data_received(held)


def _urgent(data: bytes) -> bool:
    """Whether these bytes end the answer: keys as they cannot stand in a JSON string, where quotes are escaped, and the
    end of a chunked body, which is there also where the body's chunks cut such a key in two."""
    return (
        b'"finish_reason":"' in data
        or b'"finish_reason": "' in data
        or b'"error":' in data
        or b"[DONE]" in data
        or b"\r\n0\r\n\r\n" in data
    )
