"""Tools that Parley runs itself, inside a turn.

Knows what each tool takes and does. Does not know who asks, which model called it, or what a turn does with the result.
Its own tables: none.
"""

from chat_app.tools.base import BuiltIn, ToolError
from chat_app.tools.calculator import Calculator

__all__ = ["BUILT_IN", "BuiltIn", "ToolError"]

BUILT_IN: dict[str, BuiltIn] = {tool.definition.name: tool for tool in (Calculator(),)}
"""Every built-in tool by its name."""
