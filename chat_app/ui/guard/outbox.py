"""What waits to be sent to the pages, counted and bounded: one that does not read is cut off.

Engine.IO queues whatever a socket is sent, however much. Its writer hands one message at a time to the server, which
asks for the next once the network has taken that one: so what a page does not read waits here. It does not know what a
message says.
"""

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from chat_app.telemetry.metrics import SOCKET_REFUSED

MOST_WAITING = 6_000_000
"""Bytes of memory that may wait for one socket when one more message is put behind them. A page that shows as many
messages as it can, each as long as can be, gets twice 2.6 million as it opens."""
MOST_OF_ALL = 64_000_000
"""The same for all sockets of this process; where there is more, the one with the most is cut off."""
LONGEST_WAIT_S = 60.0
"""Seconds after which a message that the network has not taken yet will not be taken, once another one is due."""
LAST_S = 5.0
"""Seconds for the last words of a connection that ends."""
BESIDE = 500
"""Bytes of memory that a message takes beside its text."""


class Outboxes:
    """All that waits in this process."""

    def __init__(self) -> None:
        self._all: set[Outbox] = set()
        self.waiting = 0
        """Bytes."""

    def opened(self, cut: Callable[[], object]) -> "Outbox":
        """The outbox of a new socket, to be closed with it. `cut` ends its connection at once."""
        box = Outbox(self, cut)
        self._all.add(box)
        return box

    def forget(self, box: "Outbox") -> None:
        self._all.discard(box)

    def grew(self) -> None:
        while self.waiting > MOST_OF_ALL:
            max(self._all, key=lambda box: box.waiting).cut_off()


class Outbox(asyncio.Queue[Any]):
    """Engine.IO's queue of one socket. It gives its one reader, the writer, a message only after the one before."""

    def __init__(self, beside: Outboxes, cut: Callable[[], object]) -> None:
        super().__init__()
        self._beside, self._cut = beside, cut
        self.waiting = 0
        """Bytes that were put here and that the network has not taken."""
        self._sent: Any = None
        self._since = 0.0
        self._is_cut = False
        self._ending: asyncio.TimerHandle | None = None

    def put_nowait(self, item: Any) -> None:
        """Take a message, or drop it where the connection is cut off. None is the end."""
        if item is None:
            self.end_soon()
        elif not self._may_wait():
            return
        super().put_nowait(item)
        self._count(_size(item))
        self._beside.grew()

    async def get(self) -> Any:
        """The next message: whoever asks has sent the one before."""
        self._settle()
        return await super().get()

    def get_nowait(self) -> Any:
        """The next message, if there is none that is being sent. Raises `QueueEmpty`."""
        if self._sent is not None:
            raise asyncio.QueueEmpty
        self._sent, self._since = super().get_nowait(), _now()
        return self._sent

    def end_soon(self) -> None:
        """Cut the connection off unless it is over in a moment: Engine.IO would wait for its writer, and that for the
        network, as long as it takes."""
        if not self._is_cut and self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(LAST_S, self.cut_off)

    def cut_off(self) -> None:
        """End the connection, and drop what waits for it."""
        if self._is_cut:
            return
        self._is_cut = True
        SOCKET_REFUSED.labels("pages that do not read").inc()
        self._empty()
        self._cut()

    def close(self) -> None:
        """The connection is over."""
        self._is_cut = True
        self._empty()
        self._beside.forget(self)
        if self._ending is not None:
            self._ending.cancel()

    def _may_wait(self) -> bool:
        stalls = self._sent is not None and _now() - self._since > LONGEST_WAIT_S
        if not self._is_cut and (stalls or self.waiting > MOST_WAITING):
            self.cut_off()
        return not self._is_cut

    def _empty(self) -> None:
        ended = False
        while not self.empty():
            ended = super().get_nowait() is None
            self.task_done()
        if ended:  # The writer waits for that.
            super().put_nowait(None)
        self._count(-self.waiting)

    def _settle(self) -> None:
        if self._sent is not None and not self._is_cut:
            self._count(-_size(self._sent))
        self._sent = None

    def _count(self, size: int) -> None:
        self.waiting += size
        self._beside.waiting += size


OUTBOX: ContextVar[Outbox] = ContextVar("outbox")
"""Of the socket that is being served."""


def current(*_: object, **__: object) -> Outbox:
    """What Engine.IO shall take for the queue of a new socket (its `create_queue`)."""
    return OUTBOX.get()


def _size(item: Any) -> int:
    return 0 if item is None else BESIDE + sys.getsizeof(item.data)


def _now() -> float:
    return asyncio.get_running_loop().time()
