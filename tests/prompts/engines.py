"""Engines as far as a prompt asks them: they count, and remember how often they were asked."""

from collections.abc import Callable, Sequence

from chat_app.prompts.measure import Measure
from inference.protocol import CannotCount, Message, Tool

EXACT = Measure(base=0, each=1, tools=0)
"""What `Counter` adds to a message, and nothing more."""


def words(text: str) -> int:
    return len(text.split())


class Counter:
    """Counts `tokens` of every content and one for each message."""

    def __init__(self, tokens: Callable[[str], int] = words) -> None:
        self._tokens = tokens
        self.asked: list[tuple[Message, ...]] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        self.asked.append(tuple(messages))
        return self.truth(messages)

    def truth(self, messages: Sequence[Message]) -> int:
        return sum(self._tokens(message.content) + 1 for message in messages)


class Uncounting:
    """A server without any way to count."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        self.asked += 1
        raise CannotCount("not here")
