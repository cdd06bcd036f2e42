"""The prompts that an engine has read lately: the service counts one, and the stream that follows reads the same."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from inference.protocol import Message, Tool

MOST = 16


class Prompts:
    """`read` makes the tokens of a conversation, the beginning of its answer and the tools that it may call; what it
    raises is not remembered."""

    def __init__(self, read: Callable[[Sequence[Message], str, Sequence[Tool]], Awaitable[list[int]]]) -> None:
        self._read = read
        self._known: OrderedDict[tuple[tuple[Message, ...], str, tuple[Tool, ...]], list[int]] = OrderedDict()

    async def tokens(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> list[int]:
        """The tokens, made only if they are not among the last `MOST`."""
        key = (tuple(messages), continue_from, tuple(tools))
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        tokens = self._known[key] = await self._read(messages, continue_from, tools)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return tokens

    def clear(self) -> None:
        """Forget all: what they were read for has gone."""
        self._known.clear()
