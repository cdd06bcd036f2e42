"""The tool calls of one answer, put together from the pieces in which servers send them.

OpenAI's way is a piece with `index`, `id` and `name`, then pieces with that `index` and parts of the arguments. Others
repeat the id in every piece, leave the index out or have it 0 for every call, send a call whole, or its arguments as an
object. Pure.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from inference.protocol import ToolCall


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str
    name: str
    arguments: str


class Calls:
    """Takes the `tool_calls` of each delta; `whole` are the calls once no more come."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, pieces: Any) -> None:
        """Raises `ValueError`, `TypeError` or `AttributeError` for what is no list of pieces."""
        for piece in pieces:
            function = piece.get("function") or {}
            index, id = piece.get("index"), str(piece.get("id") or "")
            name, arguments = str(function.get("name") or ""), function.get("arguments")
            if isinstance(arguments, dict | list):
                arguments = orjson.dumps(arguments).decode()
            elif not isinstance(arguments, str | None):
                raise TypeError("the arguments of a call are no text")
            call = self._begun(index if isinstance(index, int) else None, id, name)
            if call is None:
                self._calls.append(_Call(index if isinstance(index, int) else None, id, name, arguments or ""))
                continue
            call.id, call.name = call.id or id, call.name or name
            call.arguments += arguments or ""

    def _begun(self, index: int | None, id: str, name: str) -> _Call | None:
        """The call that a piece goes on with; None if it begins one."""
        if id:
            known = next((call for call in self._calls if call.id == id), None)
            if known is not None:
                return known
        same = (call for call in reversed(self._calls) if index is None or call.index == index)
        call = next(same, None)
        if call is None or (id and call.id):
            return None
        # A name that comes again is a further call, unless the arguments of this one have not ended.
        if name and call.name and (name != call.name or _is_json(call.arguments)):
            return None
        return call

    @property
    def whole(self) -> tuple[ToolCall, ...]:
        """All calls that have a name; one without an id gets one."""
        return tuple(
            ToolCall(call.id or f"call_{uuid.uuid4().hex}", call.name, call.arguments)
            for call in self._calls
            if call.name
        )


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
