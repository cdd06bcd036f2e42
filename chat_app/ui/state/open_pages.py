"""Which background work of which open page is current, and whether the page is still there.

Reflex lets background events run on when their page has gone. Each of ours therefore takes a turn here and asks, at
each step, whether it still has it. In memory of this process, like the sockets that it is about.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import count

import reflex as rx
from reflex.utils import prerequisites


@dataclass(frozen=True, slots=True)
class Turn:
    """The right of one background event to work for one page (a client token)."""

    page: str
    work: str
    number: int


@dataclass(slots=True)
class OpenPages:
    """The current turns."""

    _numbers: "count[int]" = field(default_factory=count)
    _current: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, page: str, work: str) -> Turn:
        """Begin this kind of work for the page; whoever did it before has lost its turn."""
        turn = Turn(page, work, next(self._numbers))
        self._current[page, work] = turn.number
        return turn

    def has(self, turn: Turn) -> bool:
        """Whether the turn is still current and its page connected."""
        return self._current.get((turn.page, turn.work)) == turn.number and is_connected(turn.page)

    def leave(self, turn: Turn) -> None:
        """The work is over."""
        if self._current.get((turn.page, turn.work)) == turn.number:
            del self._current[turn.page, turn.work]

    def cancel(self, page: str, work: str) -> None:
        """Nobody shall do this work for the page any more."""
        self._current.pop((page, work), None)


def is_connected(page: str) -> bool:
    """Whether the page's socket is open, on this process. Asked for each frame of each answer, so it only looks up.

    Reflex's public ways copy its whole table, or its module path, each time; names of Reflex 0.10.
    """
    namespace = _app().event_namespace
    if namespace is None:
        return False
    sockets = namespace._token_manager
    record = sockets.token_to_socket.get(page)
    return record is not None and record.instance_id == sockets.instance_id


@cache
def _app() -> rx.App:
    app: rx.App = prerequisites.get_app().app
    return app


open_pages = OpenPages()
