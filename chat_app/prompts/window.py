"""The prompt window: as much of the conversation as fits the model, on a prefix that stays the same.

The oldest messages go first, and they go in steps: a cut that moved by one message each turn would change the
prompt's beginning every time and throw the engine's prefix cache away. The cut depends on nothing but the
conversation and the model, so every replica makes the same one. It does not count tokens itself: the engine does.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from inference.protocol import Message

STEP = 4
"""Messages dropped at a time; even, so that the window always begins with a question."""

CHARS_A_TOKEN = 16
"""More characters than this no token has on average: a longer conversation need not be counted to be known too long."""

Count = Callable[[Sequence[Message]], Awaitable[int]]


class TooLong(Exception):
    """Not even the last message fits: `tokens` needed where `room` are there."""

    def __init__(self, tokens: int, room: int) -> None:
        super().__init__(f"{tokens} tokens do not fit into {room}")
        self.tokens = tokens
        self.room = room


@dataclass(frozen=True, slots=True)
class Window:
    """What the model will see. `tokens` is the engine's count of the whole templated prompt."""

    messages: tuple[Message, ...]
    tokens: int
    kept: int
    dropped: int


async def fit(
    head: Sequence[Message], conversation: Sequence[Message], context: int, reserve: int, count: Count
) -> Window:
    """Keep `head` (the system prompt) and the newest part of `conversation` within `context - reserve` tokens.

    `reserve` is the room kept for the answer. Raises `TooLong` if the last message alone does not fit.
    """
    room = context - reserve
    cuts = [*range(_hopeless(conversation, context), len(conversation) - 1, STEP), max(0, len(conversation) - 1)]
    # Fewer messages are fewer tokens, so the first cut that fits is found by bisection; most turns need one count.
    low, high, best = 0, len(cuts) - 1, None
    probe = 0
    while low <= high:
        messages = (*head, *conversation[cuts[probe] :])
        tokens = await count(messages)
        if tokens <= room:
            best = Window(messages, tokens, kept=len(conversation) - cuts[probe], dropped=cuts[probe])
            high = probe - 1
        else:
            low = probe + 1
            last = tokens
        probe = (low + high) // 2
    if best is None:
        raise TooLong(last, room)
    return best


def _hopeless(conversation: Sequence[Message], context: int) -> int:
    """How many of the oldest messages, in whole steps, cannot be in the window, to judge by their length alone."""
    chars = 0
    for at in range(len(conversation) - 1, -1, -1):
        chars += len(conversation[at].content)
        if chars > context * CHARS_A_TOKEN:
            return -(-(at + 1) // STEP) * STEP
    return 0
