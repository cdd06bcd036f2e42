"""An answer in OpenAI's shape, byte for byte: chunks of a stream, or the whole. It knows no socket."""

from typing import Any, Literal

import orjson

from chat_app.sessions.generations import GenerationView

FinishReason = Literal["stop", "length", "content_filter"]


class Shape:
    """The shape of one answer. `created` in seconds; the id is `chatcmpl-` and the generation's."""

    def __init__(self, generation_id: str, model: str, created: int) -> None:
        self._head = {"id": f"chatcmpl-{generation_id}", "created": created, "model": model}
        chunk = orjson.dumps({"object": "chat.completion.chunk", **self._head})[:-1]
        # What surrounds the text is the same in every chunk, so it is encoded once.
        self._start = b"data: " + chunk
        self._before = self._start + b',"choices":[{"index":0,"delta":{"content":'
        self._after = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def opening(self) -> bytes:
        """The first chunk: whose answer this is."""
        return (
            self._start + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
            b'"logprobs":null,"finish_reason":null}]}\n\n'
        )

    def piece(self, text: str) -> bytes:
        """A chunk of text."""
        return self._before + orjson.dumps(text) + self._after

    def closing(self, reason: FinishReason) -> bytes:
        """The chunk that says why the text ends."""
        return (
            self._start
            + b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":'
            + orjson.dumps(reason)
            + b"}]}\n\n"
        )

    def usage(self, ended: GenerationView) -> bytes:
        """The last chunk, which has no choices, for those who asked for usage."""
        return self._start + b',"choices":[],"usage":' + orjson.dumps(usage_of(ended)) + b"}\n\n"

    def whole(self, text: str, reason: FinishReason, usage: dict[str, Any]) -> dict[str, Any]:
        """The answer to a program that does not stream."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}


def usage_of(view: GenerationView) -> dict[str, Any]:
    """The tokens that the engine counted and the ledger charged."""
    return {
        "prompt_tokens": view.prompt_tokens,
        "completion_tokens": view.completion_tokens,
        "total_tokens": view.prompt_tokens + view.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": view.cached_tokens},
    }


def finish_reason(view: GenerationView) -> FinishReason:
    """OpenAI's word for how an answer ended; a stopped one counts as ended of itself."""
    if view.status == "refused":
        return "content_filter"
    return "length" if view.receipt.get("finish") == "length" else "stop"
