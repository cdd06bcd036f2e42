"""What a built-in tool is."""

from typing import Protocol

from inference.protocol import Tool


class ToolError(Exception):
    """The tool cannot do what it was asked; the message is for the model, which may try again."""


class BuiltIn(Protocol):
    """A tool that runs in this process."""

    @property
    def definition(self) -> Tool:
        """Its name, what it is for, and the JSON schema of its arguments, as a model is given them."""
        ...

    async def run(self, arguments: str, key: str) -> str:
        """The result as text. `arguments` is JSON text from a model, so anything. Raises `ToolError`.

        `key` is the same whenever the same call is made again (its process was killed before the result was stored):
        a tool that changes something does it once per key. It may be cancelled after a time, so what computes goes to a
        thread or a process of its own, and never keeps the event loop.
        """
        ...
