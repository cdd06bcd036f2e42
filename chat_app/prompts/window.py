"""The prompt window: as much of the conversation as fits the model, on a beginning that stays the same.

The oldest messages go first, and they go in steps: a beginning that moved with every turn would throw the engine's
prefix cache away. What surely fits is not counted; the rest is counted twice at most. It does not count tokens
itself: the engine does.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from chat_app.prompts.measure import Measure
from inference.protocol import CannotCount, Message

STEP = 4
"""Messages dropped at a time, from the conversation's beginning on; even, so that a window begins with a question."""

CHARS_A_TOKEN = 6
"""More characters than this no conversation has for each token of its window, within what the first count may read."""

FILLED = (3, 4)
"""How full the window is, as a fraction, after a count has said that it must be cut: the next turns need no cut."""


class TooLong(Exception):
    """Not even the last message fits: `tokens` needed where `room` are there."""

    def __init__(self, tokens: int, room: int) -> None:
        super().__init__(f"{tokens} tokens do not fit into {room}")
        self.tokens = tokens
        self.room = room


@dataclass(frozen=True, slots=True)
class Cut:
    """The first message that is kept, by its index, and what the prompt then has: counted, or at most."""

    start: int
    tokens: int
    counted: bool


def most_chars(context: int) -> int:
    """How many characters of a thread are worth reading for a window of so many tokens."""
    return context * CHARS_A_TOKEN


def starts(history: Sequence[Message], positions: Sequence[int], since: int | None, next_role: str) -> list[int]:
    """Where in `history` a window may begin, by index, ascending; the last one is behind it.

    A window begins at a multiple of STEP in `positions`, or a little later: with a person's message where there is
    one, never with a tool's result. `since` is where the window of the turn before began, or None: it may begin there
    again, and nowhere before. `next_role` is the role of the message behind the history.
    """
    end = len(history)
    next_user, next_whole = [end] * (end + 1), [end] * (end + 1)
    for at in range(end - 1, -1, -1):
        role = history[at].role
        next_user[at] = at if role == "user" else next_user[at + 1]
        next_whole[at] = at if role != "tool" else next_whole[at + 1]
    found = {end}
    for at, position in enumerate(positions):
        if since is not None and position <= since:
            if position == since:
                found.add(at)
            continue
        before = positions[at - 1] if at else position - 1
        if position // STEP == before // STEP:
            continue
        in_place = position == 0 or (next_user[at] == end and next_role != "user")
        found.add(next_whole[at] if in_place else next_user[at])
    return sorted(found)


async def cut(
    history: Sequence[Message],
    candidates: Sequence[int],
    *,
    fixed_bound: int,
    fixed_estimate: int,
    context: int,
    answer: int,
    sticky: bool,
    measure: Measure,
    count: Callable[[int], Awaitable[int]],
) -> Cut:
    """The earliest of the candidate starts that fits, as well as at most two counts can say.

    `fixed_*` are of everything but the history; `count` counts the whole prompt from a start on. An answer has up to
    `answer` tokens; a quarter of the context at most is kept free for it where the conversation is long. `sticky`: the
    first candidate is where the window of the turn before began, so that one stays if it fits at all.
    Raises `TooLong`, and what `count` raises except for `CannotCount`.
    """
    bounds = _behind(fixed_bound, map(measure.of_message, history))
    first, last = candidates[0], candidates[-1]
    if bounds[first] <= context - answer:
        return Cut(first, bounds[first], counted=False)
    estimates = _behind(fixed_estimate, map(measure.estimate, history))
    room = context - min(answer, context // 4)
    sure = next((start for start in candidates if bounds[start] <= room), None)
    try:
        likely = next((start for start in candidates if estimates[start] <= room), last)
        # If the question alone may be too long, the second count has to be of that, so the first one takes no chance.
        start = first if sticky and sure is not None else likely
        tokens = await count(start)
        if tokens <= room:
            return Cut(start, tokens, counted=True)
        if start == last:
            raise TooLong(tokens, room)
        if sure is None:
            tokens = await count(last)
            if tokens > room:
                raise TooLong(tokens, room)
            return Cut(last, tokens, counted=True)
        if tokens > bounds[start]:  # The template adds more than was measured: no bound is sure but the least one.
            sure = last
        target = room * FILLED[0] // FILLED[1] * estimates[start] // tokens
        second = next((at for at in candidates if estimates[at] <= target), last)
        if second < sure:
            tokens = await count(second)
            if tokens <= room:
                return Cut(second, tokens, counted=True)
    except CannotCount:
        if sure is None:
            raise TooLong(bounds[last], room) from None
    return Cut(sure, bounds[sure], counted=False)


def _behind(fixed: int, costs: Iterable[int]) -> list[int]:
    """Of every index, the cost of all messages from there on, `fixed` included."""
    return [*accumulate(reversed([*costs]), initial=fixed)][::-1]
