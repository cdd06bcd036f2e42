"""The messages of a chat completion: OpenAI's fields, strictly read, into what a turn takes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from chat_app.gateway.completion_fields import Fields, FunctionName
from chat_app.gateway.errors import wrong
from chat_app.turn.call_gate import MOST_CALLS
from inference.protocol import Message, ToolCall

MOST_ARGUMENTS = 200_000
"""Characters of one call's arguments."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def _text(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("must be text or a list of text parts")
    return "".join(map(_part, content))


def _part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise ValueError("only parts of the type “text” are supported here")
    text = part.get("text")
    if not isinstance(text, str):
        raise ValueError("a text part needs its text")
    return text


CallId = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]


class _Function(Fields):
    name: FunctionName
    arguments: Annotated[str, Field(max_length=MOST_ARGUMENTS)]


class _Call(Fields):
    id: CallId
    type: Literal["function"]
    function: _Function


class MessageField(Fields):
    """One of OpenAI's `messages`."""

    role: str
    content: Annotated[str | None, BeforeValidator(_text)] = None
    tool_calls: Annotated[list[_Call], Field(max_length=MOST_CALLS)] | None = None
    tool_call_id: CallId | None = None


def read_messages(fields: Sequence[MessageField]) -> tuple[Message, ...]:
    """Read the conversation. Raises `ApiError` (400), which names the field that is wrong."""
    open_calls: set[str] = set()
    """Calls that have no result yet: a result has to come after its call, and once."""
    messages = tuple(_message(f"messages[{at}]", field, open_calls) for at, field in enumerate(fields))
    if messages[-1].role not in ("user", "tool"):
        raise wrong(f"messages[{len(messages) - 1}].role", "the last message must be the user's or a tool's")
    return messages


def _message(at: str, field: MessageField, open_calls: set[str]) -> Message:
    role = _ROLES.get(field.role)
    if role is None:
        raise wrong(f"{at}.role", "must be system, developer, user, assistant or tool")
    if role == "tool":
        if field.tool_call_id is None:
            raise wrong(f"{at}.tool_call_id", "is needed")
        if field.tool_call_id not in open_calls:
            raise wrong(f"{at}.tool_call_id", "no earlier message of the assistant waits for this call's result")
        open_calls.discard(field.tool_call_id)
    calls = _calls(at, field, open_calls) if field.tool_calls else ()
    if field.content is None and not calls:
        raise wrong(f"{at}.content", "is needed")
    return Message(role, field.content or "", calls, field.tool_call_id or "" if role == "tool" else "")


def _calls(at: str, field: MessageField, open_calls: set[str]) -> tuple[ToolCall, ...]:
    if field.role != "assistant":
        raise wrong(f"{at}.tool_calls", "only the assistant asks for calls")
    calls: list[ToolCall] = []
    for index, call in enumerate(field.tool_calls or ()):
        if call.id in open_calls:
            raise wrong(f"{at}.tool_calls[{index}].id", "there is another call with this id, without a result")
        open_calls.add(call.id)
        calls.append(ToolCall(call.id, call.function.name, call.function.arguments))
    return tuple(calls)
