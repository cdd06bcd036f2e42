"""What this process knows of the generations that it writes or watches, and the tails that read from it.

One mirror per generation, however many tails: a tail is only a position in it, so a slow consumer costs nothing and
gets what it missed as one piece. It does not know where the text is stored: the log feeds it what has been stored.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable

from chat_app.data.log.base import QUIET_S, LogUnavailable, Piece
from chat_app.data.log.flush import Append

MOST_AHEAD = 256
"""Posts kept while what comes before them is still being read; of more, the history is read once more instead."""


class Mirror:
    """A generation's stored text from its first character on, as far as it is known here."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._texts: list[str] = []
        self.length = 0
        self.end: str | None = None
        self.ended_at = 0
        """Length of the whole log, once its end has been heard of."""
        self.ahead: list[Piece] = []
        """What came too early: text is missing between `length` and these."""
        self.missed = 0
        """How many came too early and were not even kept."""
        self.resets = 0
        self.loaded = False
        """Whether the history has been read: before that, text may be missing at the beginning."""
        self.loading: asyncio.Task[None] | None = None
        self.fence: int | None = None
        """The fencing number under which this process writes it; None if it does not."""
        self.begun = False
        """Whether it is written here without having been opened: then the first append may make the log."""
        self.opening = 0
        """Which opening in this process it is written under."""
        self.waiters: set[asyncio.Event] = set()
        self._seen = 0

    def text(self) -> str:
        return "".join(self._texts)

    def feed(self, offset: int, text: str, end: str | None = None) -> bool:
        """Take in stored text; what is known already is skipped. False if something before it is missing here.

        Then the caller has to see to it that the history is read (`Mirrors.refresh`).
        """
        if end is not None:
            self.ended_at = max(self.ended_at, offset + len(text))
        if offset > self.length:
            if len(self.ahead) < MOST_AHEAD:
                self.ahead.append(Piece(offset, text, end))
            else:
                self.missed += 1
            return False
        self._take(offset, text, end)
        while self.ahead and self.ahead[0].offset <= self.length:
            piece = self.ahead.pop(0)
            self._take(piece.offset, piece.text, piece.end)
        self.wake()
        return True

    def _take(self, offset: int, text: str, end: str | None) -> None:
        if offset + len(text) > self.length:
            self._starts.append(self.length)
            self._texts.append(text[self.length - offset :])
            self.length = offset + len(text)
        if end is not None:
            self.end = end

    def reset(self, text: str = "") -> None:
        """Forget what is known for `text`. Tails that are further already wait until it has passed them."""
        self._starts, self._texts = ([0], [text]) if text else ([], [])
        self.length = len(text)
        self.end = None
        self.ended_at = 0
        self.ahead.clear()
        self.resets += 1

    def since(self, position: int) -> Piece | None:
        """What a tail at `position` has not had, or None if that is nothing."""
        whole = self.length >= self.ended_at
        if position < self.length:
            first = bisect_right(self._starts, position) - 1
            text = "".join(self._texts[first:])[position - self._starts[first] :]
            return Piece(position, text, self.end if whole else None)
        # An end of which the store has lost text before this process had it is yielded where it lies.
        return None if self.end is None else Piece(max(position, self.ended_at), "", self.end)

    def moved(self) -> bool:
        """Whether text has come since the last time that this was asked."""
        seen, self._seen = self._seen, self.length
        return seen != self.length

    def wake(self) -> None:
        for waiter in self.waiters:
            waiter.set()


class Mirrors:
    """The mirrors of this process. One that is not written here is dropped with its last tail."""

    def __init__(self, history: Callable[[str], Awaitable[Piece]]) -> None:
        """`history` reads all that is stored of a generation; what is stored later has to come by `Mirror.feed`."""
        self._history = history
        self._mirrors: dict[str, Mirror] = {}
        self._closed = False

    def get(self, generation: str) -> Mirror | None:
        return self._mirrors.get(generation)

    def items(self) -> list[tuple[str, Mirror]]:
        return list(self._mirrors.items())

    def own(self, generation: str, fence: int, text: str, end: str | None) -> Mirror:
        """This process writes the generation from now on, behind `text`, which is all that is stored."""
        mirror = self._mirrors.setdefault(generation, Mirror())
        mirror.fence, mirror.loaded, mirror.begun = fence, True, False
        if mirror.text() != text:
            mirror.reset(text)
        mirror.feed(len(text), "", end)
        return mirror

    def stored(self, append: Append, offset: int) -> None:
        """This process has stored an append at `offset` (for an end: the log's length)."""
        mirror = self._mirrors.get(append.generation)
        if mirror is not None and not mirror.feed(offset, append.text, append.status):
            # The acknowledgement of an earlier append was lost, and its writer went on without opening again.
            self.refresh(append.generation, mirror)

    def disown(self, generation: str, fence: int) -> bool:
        """It is not written under this number any more. False if it was not here, or is under another by now."""
        mirror = self._mirrors.get(generation)
        if mirror is None or mirror.fence != fence:
            return False
        mirror.fence = None
        self._drop_unused(generation, mirror)
        return True

    def close(self) -> None:
        """Every tail raises `LogUnavailable` once it has yielded what is known."""
        self._closed = True
        for mirror in self._mirrors.values():
            mirror.wake()

    def refresh(self, generation: str, mirror: Mirror) -> asyncio.Task[None]:
        """Read the history, unless that is under way."""
        if mirror.loading is None or mirror.loading.done():
            mirror.loading = asyncio.ensure_future(self._refresh(generation, mirror))
            mirror.loading.add_done_callback(_seen)
        return mirror.loading

    async def _refresh(self, generation: str, mirror: Mirror) -> None:
        while True:
            missed, resets, early = mirror.missed, mirror.resets, set(mirror.ahead)
            piece = await self._history(generation)
            if mirror.resets != resets:
                continue
            mirror.feed(piece.offset, piece.text, piece.end)
            mirror.loaded = True
            mirror.wake()
            # What was early before the history was read and still does not fit belongs to text that the store lost.
            mirror.ahead = [ahead for ahead in mirror.ahead if ahead not in early]
            if mirror.missed == missed and not mirror.ahead:
                return

    async def tail(self, generation: str, offset: int) -> AsyncGenerator[Piece, None]:
        mirror = self._mirrors.setdefault(generation, Mirror())
        news = asyncio.Event()
        # Registered before the history is read: what is stored meanwhile comes by one of the two ways, or by both.
        mirror.waiters.add(news)
        loop = asyncio.get_running_loop()
        yielded_at = loop.time()
        pulse = loop.call_later(QUIET_S, news.set)  # one in a while rather than one a piece: this is the hot path
        try:
            while True:
                if not mirror.loaded:
                    await asyncio.shield(self.refresh(generation, mirror))
                news.clear()
                now = loop.time()
                if now >= pulse.when():
                    pulse = loop.call_later(QUIET_S, news.set)
                piece = mirror.since(offset)
                if piece is None and now - yielded_at >= QUIET_S:
                    piece = Piece(offset, "")
                if piece is not None:
                    offset = piece.offset + len(piece.text)
                    yielded_at = now
                    yield piece
                    if piece.end is not None:
                        return
                elif self._closed:
                    raise LogUnavailable("the generation log is being closed")
                else:
                    await news.wait()
        finally:
            pulse.cancel()
            mirror.waiters.discard(news)
            self._drop_unused(generation, mirror)

    def _drop_unused(self, generation: str, mirror: Mirror) -> None:
        if mirror.fence is None and not mirror.waiters and self._mirrors.get(generation) is mirror:
            del self._mirrors[generation]
            if mirror.loading is not None:
                mirror.loading.cancel()


def _seen(task: asyncio.Task[None]) -> None:
    """A refresh that failed raises in the tails that wait for it; without any there is nobody to raise it to."""
    if not task.cancelled():
        task.exception()
