"""An answer in OpenAI's shape, byte for byte: chunks of a stream, or the whole. It knows no socket."""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import orjson

from chat_app.data.log.entries import Entry, text_of

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Usage = dict[str, Any]
DONE = b"data: [DONE]\n\n"


class Shape:
    """The shape of one answer. `created` in seconds; the id is `chatcmpl-` and the generation's."""

    def __init__(self, generation_id: str, model: str, created: int) -> None:
        self._head = {"id": f"chatcmpl-{generation_id}", "created": created, "model": model}
        self._calls = 0
        self._prepare()

    def _prepare(self) -> None:
        chunk = orjson.dumps({"object": "chat.completion.chunk", **self._head})[:-1]
        # What surrounds a delta is the same in every chunk, so it is encoded once.
        self._start = b"data: " + chunk
        self._before = self._start + b',"choices":[{"index":0,"delta":'
        self._after = b',"logprobs":null,"finish_reason":null}]}\n\n'

    def opening(self) -> bytes:
        """The first chunk: whose answer this is."""
        return self._delta(b'{"role":"assistant","content":""}')

    def chunks(self, entries: Iterable[Entry]) -> bytes:
        """The chunks of what came next; empty if none of it is for the program."""
        return b"".join(map(self._chunk, entries))

    def closing(self, reason: FinishReason) -> bytes:
        """The chunk that says why the answer ends."""
        return (
            self._start
            + b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":'
            + orjson.dumps(reason)
            + b"}]}\n\n"
        )

    def usage(self, usage: Usage) -> bytes:
        """The last chunk, which has no choices, for those who asked for usage."""
        return self._start + b',"choices":[],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def whole(self, entries: list[Entry], reason: FinishReason, usage: Usage) -> bytes:
        """The answer to a program that does not stream."""
        for entry in entries:
            self._notice(entry)
        text = text_of(entries)
        calls = [_call(entry) for entry in entries if _is_clients(entry)]
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        if reasoning := "".join(entry.text for entry in entries if entry.kind == "reasoning"):
            message["reasoning_content"] = reasoning
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return orjson.dumps({**self._head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _chunk(self, entry: Entry) -> bytes:
        if entry.kind == "text":
            return self._delta(b'{"content":' + orjson.dumps(entry.text) + b"}")
        if entry.kind == "reasoning":
            return self._delta(b'{"reasoning_content":' + orjson.dumps(entry.text) + b"}")
        self._notice(entry)
        return self._called(entry) if _is_clients(entry) else b""

    def _notice(self, entry: Entry) -> None:
        """From here on the answer is of the model that stands in for the chosen one."""
        if entry.kind == "status" and "model" in entry.data:
            self._head["model"] = entry.data["model"]
            self._prepare()

    def _called(self, entry: Entry) -> bytes:
        """A call in two chunks, as OpenAI has it: which function, then its arguments."""
        index, call = self._calls, _call(entry)
        self._calls += 1
        function = call["function"]
        first = {"index": index, **call, "function": {**function, "arguments": ""}}
        then = {"index": index, "function": {"arguments": function["arguments"]}}
        return b"".join(self._delta(orjson.dumps({"tool_calls": [delta]})) for delta in (first, then))

    def _delta(self, delta: bytes) -> bytes:
        return self._before + delta + self._after


def _is_clients(entry: Entry) -> bool:
    """Whether it is a call for the program to make: those of built-in tools are made within the turn."""
    return entry.kind == "tool_call" and not entry.data["built_in"]


def _call(entry: Entry) -> dict[str, Any]:
    function = {"name": entry.data["name"], "arguments": entry.data["arguments"]}
    return {"id": entry.data["id"], "type": "function", "function": function}


class Counted(Protocol):
    """What has tokens: a generation's row, or its seal."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...


def usage_of(ended: Counted) -> Usage:
    """The tokens that the engine counted and the ledger charged."""
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": ended.cached_tokens},
    }


def finish_reason(status: str | None, finish: object) -> FinishReason:
    """OpenAI's word for how an answer ended; a stopped one counts as ended of itself."""
    if status == "refused":
        return "content_filter"
    match finish:
        case "length":
            return "length"
        case "tool_calls":
            return "tool_calls"
        case _:
            return "stop"
