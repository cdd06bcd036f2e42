"""The tools of a chat completion: functions of the program's own, and tools that Parley runs within the turn.

It reads and bounds them; it does not know what a tool does, nor how a model learns of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chat_app.gateway.completion_fields import Fields, FunctionName
from chat_app.gateway.errors import ApiError, wrong
from chat_app.tools import BUILT_IN
from inference.protocol import BadRequest, Tool
from inference.schema import check_schema

MOST_BYTES = 65_536
"""Of all tools together, as JSON."""
MOST_PARTS = 4_000
"""Properties, choices and definitions in the schemas of all tools together."""
CHOICES = ("auto", "none", "required")


class FunctionField(Fields):
    """OpenAI's `function` of a tool. `strict` is ignored: no engine here promises arguments that fit."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolField(Fields):
    """One of OpenAI's `tools`."""

    type: str
    function: FunctionField | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a turn may call. `choice` is "auto", "none", "required" or the name of the function that must be called."""

    functions: tuple[Tool, ...] = ()
    built_in: tuple[str, ...] = ()
    choice: str = "auto"


def read_tools(fields: Sequence[ToolField], choice: Any) -> Tools:
    """Read `tools` and `tool_choice`. Raises `ApiError` (400), which names the field that is wrong."""
    if sum(_size(field.function) for field in fields if field.function is not None) > MOST_BYTES:
        raise wrong("tools", f"must have at most {MOST_BYTES:,} bytes together")
    functions: list[Tool] = []
    built_in: list[str] = []
    parts = 0
    for index, field in enumerate(fields):
        at = f"tools[{index}]"
        if field.type == "function":
            if field.function is None:
                raise wrong(f"{at}.function", "is needed")
            name, where = field.function.name, f"{at}.function.name"
            function, more = _function(field.function, f"{at}.function")
            if (parts := parts + more) > MOST_PARTS:
                raise wrong("tools", f"must have at most {MOST_PARTS:,} properties, choices and definitions together")
            functions.append(function)
        elif field.type in BUILT_IN:
            name, where = field.type, f"{at}.type"
            built_in.append(name)
        else:
            raise wrong(f"{at}.type", f"must be function or one of {', '.join(sorted(BUILT_IN))}")
        if name in CHOICES:
            raise wrong(where, f"must not be {', '.join(CHOICES)}, which tool_choice says")
        if [*(tool.name for tool in functions), *built_in].count(name) > 1:
            raise wrong(where, f"there is another tool named {name}")
    return Tools(tuple(functions), tuple(built_in), _choice(choice, functions, built_in))


def _size(field: FunctionField) -> int:
    """Bytes of a function; 0 for one that is nested too deep to be written, which its own check refuses."""
    try:
        parameters = b"" if field.parameters is None else orjson.dumps(field.parameters)
    except orjson.JSONEncodeError:
        return 0
    return len(field.name) + len((field.description or "").encode()) + len(parameters)


def _function(field: FunctionField, at: str) -> tuple[Tool, int]:
    """The function, and how many parts its schema has."""
    if field.parameters is None:
        return Tool(field.name, field.description or ""), 0
    try:
        parts = check_schema(field.parameters)
    except BadRequest as error:
        raise wrong(f"{at}.parameters", str(error)) from None
    if field.parameters.get("type", "object") != "object":
        raise wrong(f"{at}.parameters", "must be a JSON schema of the type object")
    return Tool(field.name, field.description or "", orjson.dumps(field.parameters).decode()), parts


def _choice(choice: Any, functions: Sequence[Tool], built_in: Sequence[str]) -> str:
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise _bad_choice()
        if choice == "required" and not functions and not built_in:
            raise wrong("tool_choice", "asks for a call, and there are no tools")
        return choice
    if isinstance(choice, dict) and choice.get("type") in tuple(built_in):
        return str(choice["type"])
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise _bad_choice()
    if name not in [*(tool.name for tool in functions), *built_in]:
        raise wrong("tool_choice.function.name", "is none of the tools")
    return name


def _bad_choice() -> ApiError:
    words = (
        f'must be {", ".join(CHOICES)}, {{"type": "function", "function": {{"name": …}}}} or a built-in one of tools'
    )
    return wrong("tool_choice", words)
