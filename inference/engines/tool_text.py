"""Tool calls in the text of models that write them as `<tool_call>{"name": …, "arguments": …}</tool_call>`.

That is how Qwen 2.5, Hermes and their kin are taught to. Everything from the first tag on is no text any more; what
cannot be read as a call stays text. Pure.
"""

import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from inference.engines.plain import plain_arguments, plain_text
from inference.protocol import Message, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
TAGS = re.compile(r"<(?=/?tool(?:s|_call|_response)>)")


def without_tags(text: str) -> str:
    """What somebody else wrote, with nothing in it that a model would take for a call or a result."""
    return TAGS.sub("<\u200b", plain_text(text))


def knows_tools(template: str) -> bool:
    """Whether a chat template teaches the model to write its calls in this way."""
    return OPEN in template and "tools" in template and '"arguments"' in template.replace("\\", "")


def opening(tool_choice: str) -> str:
    """How an answer begins that has to call this tool, or any for "required"; empty if it need not call one."""
    if tool_choice in ("auto", "none"):
        return ""
    if tool_choice == "required":
        return f'{OPEN}\n{{"name": "'
    return f'{OPEN}\n{{"name": {orjson.dumps(tool_choice).decode()}, "arguments": '


class ToolText:
    """Parts calls from text that arrives in pieces. The answer began as `opening(tool_choice)` has it."""

    def __init__(self, tool_choice: str = "auto") -> None:
        self._opened = opening(tool_choice)
        self._only = tool_choice if self._opened and tool_choice != "required" else ""
        self._held = self._opened
        self._inside = bool(self._opened)

    def feed(self, text: str) -> str:
        """The text that is sure to be no call."""
        text, self._held = self._held + text, ""
        if not self._inside:
            before, tag, behind = text.partition(OPEN)
            if tag:
                self._inside, self._held = True, tag + behind
                return before
            keep = next((size for size in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:size])), 0)
            self._held = text[len(text) - keep :]
            return text[: len(text) - keep]
        self._held = text
        return ""

    def end(self, cut: bool) -> tuple[str, tuple[ToolCall, ...]]:
        """Once nothing more comes: the text that was held back and is no call after all, and the calls.

        `cut`: the answer was not at its end, so that a call which has begun is neither.
        """
        held, self._held = self._held, ""
        if not self._inside:
            return held, ()
        if cut:
            return "", ()
        calls = [_call(part.partition(CLOSE)[0]) for part in held.split(OPEN)[1:]]
        whole = tuple(call for call in calls if call is not None)
        if not whole and self._only:  # Then all that was written is its arguments, good or bad.
            written = held[len(self._opened) :].partition(CLOSE)[0].strip()
            return "", (_named(self._only, written.removesuffix("}")),)
        return ("", whole) if whole else (held, ())


def body_of(message: Message, plain: Callable[[str], str]) -> dict[str, Any]:
    """A message as llama.cpp's templates take it."""
    body: dict[str, Any] = {"role": message.role, "content": plain(message.content)}
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": plain(call.id),
                "type": "function",
                "function": {"name": plain(call.name), "arguments": plain_arguments(call.arguments, plain)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        body["tool_call_id"] = plain(message.tool_call_id)
    return body


def _call(text: str) -> ToolCall | None:
    try:
        said = orjson.loads(text)
        name, arguments = said["name"], said.get("arguments", {})
        written = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, KeyError, TypeError, AttributeError):
        return None
    return _named(name, written) if isinstance(name, str) and name else None


def _named(name: str, arguments: str) -> ToolCall:
    return ToolCall(f"call_{uuid.uuid4().hex}", name, arguments)
