"""Gathers what a server sends before the HTTP client reads it: several tokens cost one look instead of one each.

For servers that do not gather by themselves. It stands between a connection and its protocol once an answer has begun.
At first it lets the end through at once, whether that is a finish, an error or a lost connection. Behind an answer that
flows steadily the connection rests between two looks: no token wakes the process, and the end is seen at the next look.
Knows the bytes of an end and nothing else of what passes.
"""

import asyncio
from collections.abc import Callable

LONGEST = 32  # Bytes that an end may have, of which a read may bring only the last.
MOST = 2**18  # Bytes that are held; what sends so much so fast is no tokens.
STEADY = 3
"""Intervals in which text came, before the connection rests: whatever ends sooner is not held."""
LOOK_S = 0.002  # From where a connection has rested until all that came meanwhile is read.


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
        self._passes = 0
        self._rests = self._looks = False
        self._passed_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def stop(self) -> None:
        """Passes on what is held and stands aside."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)
        self._wake()
        self._pass()

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        seen = self._last + data
        if _urgent(seen):
            self.stop()
            return
        self._last = seen[-LONGEST:]
        if self._looks or self._size > MOST:
            self._pass()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._passed_at + self._interval(), self._due)
            self._rest()

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

    def _due(self) -> None:
        if not self._rests:
            self._pass()
            return
        self._wake()
        self._looks = True
        self._timer = self._loop.call_later(LOOK_S, self._pass) if self._held else None

    def _pass(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            held = b"".join(self._held)
            self._held.clear()
            self._size = 0
            self._looks = False
            self._passes += 1
            self._passed_at = self._loop.time()
            self._inner.data_received(held)
            self._loop.call_soon(self._settle)  # Behind the reader, who starts the connection with each read.

    def _settle(self) -> None:
        """Nothing more is wanted until the interval is over."""
        if self._timer is None and self._rest():
            self._timer = self._loop.call_at(self._passed_at + self._interval(), self._due)

    def _rest(self) -> bool:
        """Whether the connection rests now: not before the answer has flowed for a while, not once it is over, and not
        while `inner` has more than it can take and says itself when to go on."""
        steady = self._passes >= STEADY and self._transport.get_protocol() is self
        if steady and self._transport.is_reading():  # Which one that closes is not.
            self._transport.pause_reading()
            self._rests = True
        return self._rests

    def _wake(self) -> None:
        if self._rests:
            self._rests = False
            self._transport.resume_reading()


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
