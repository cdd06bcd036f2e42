"""How many tokens messages can have at most, and have in all likelihood, without asking the engine that counts them.

No token stands for less than one byte of UTF-8, so bytes plus what the model's template adds are an upper bound.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from inference.protocol import CannotCount, Message, Tool

Count = Callable[[Sequence[Message], Sequence[Tool]], Awaitable[int]]
"""The engine's count of the whole templated prompt. Raises `CannotCount`, and other `EngineError`s."""

ASCII_A_TOKEN = 3
"""Characters of ASCII that a token stands for, estimated low: English has 4 to 5, source code about 3."""
BYTES_A_TOKEN = 2
"""The same for bytes beyond ASCII: Chinese, Cyrillic and Arabic have 2 to 4, old tokenizers less."""
CALL_TOKENS = 64
"""What templates write around one tool or one call of a tool, beside its own text, at most."""
ESCAPED = 3
"""By so much JSON within JSON can grow when a template writes it anew."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a model's template adds, in tokens: `base` to a conversation, `each` to a message, `tools` if there are any.

    The defaults are for a model that cannot be asked; no common template adds more.
    """

    base: int = 256
    each: int = 16
    tools: int = 2_048

    def bound(self, messages: Iterable[Message], tools: Sequence[Tool] = ()) -> int:
        """No prompt of these messages and tools has more tokens."""
        return self.base + sum(map(self.of_message, messages)) + self.of_tools(tools)

    def of_message(self, message: Message) -> int:
        """The most tokens that one more message adds."""
        return self.each + _size(message.content) + _of_calls(message)

    def of_tools(self, tools: Sequence[Tool]) -> int:
        """The most tokens that the definitions of tools add."""
        return self.tools + sum(map(_of_tool, tools)) if tools else 0

    def estimate(self, message: Message) -> int:
        """The tokens that one more message adds, more likely too many than too few; never above the bound."""
        size = _size(message.content)
        beyond = 0 if size == len(message.content) else sum(1 for char in message.content if char > "\x7f")
        ascii_chars = len(message.content) - beyond
        likely = -(-ascii_chars // ASCII_A_TOKEN) - (-(size - ascii_chars) // BYTES_A_TOKEN)
        return self.each + likely + _of_calls(message)


async def measured(count: Count) -> Measure:
    """Asks the engine what its model's template adds: three counts, once per model.

    Without an engine that counts it is the default. Raises other `EngineError`s.
    """
    question, answer = Message("user", "x"), Message("assistant", "x")
    try:
        one = await count((question,), ())
        three = await count((question, answer, question), ())
        guided = await count((Message("system", "x"), question), ())
    except CannotCount:
        return Measure()
    # Nobody says which of two messages more costs how much, so each counts for both. A system prompt may take the place
    # of one that the template brings along, so it says nothing of the others.
    return Measure(base=one, each=max(three - one, guided - one, 1))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _of_calls(message: Message) -> int:
    if not message.tool_calls and not message.tool_call_id:
        return 0
    calls = sum(CALL_TOKENS + ESCAPED * (_size(c.id) + _size(c.name) + _size(c.arguments)) for c in message.tool_calls)
    return calls + ESCAPED * _size(message.tool_call_id)


def _of_tool(tool: Tool) -> int:
    """The widest form that templates are known to write: indented, everything beyond ASCII escaped."""
    try:
        parameters = json.loads(tool.parameters or "{}")
        function = {"name": tool.name, "description": tool.description, "parameters": parameters}
        return CALL_TOKENS + len(json.dumps([{"type": "function", "function": function}], indent=4))
    except (ValueError, RecursionError):
        return CALL_TOKENS + 2 * ESCAPED * (_size(tool.name) + _size(tool.description) + _size(tool.parameters))
