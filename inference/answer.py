"""An answer in the OpenAI shape, as the server writes it: events of a stream, or one object. Pure bytes and dicts."""

import time
import uuid
from typing import Any

import orjson

from inference.protocol import Chunk, EngineError, Finish, ModelCard, Overloaded, Usage

DONE = b"data: [DONE]\n\n"


class Answer:
    """One answer by `model`. Our events also say how many tokens they hold ("tokens"); other readers ignore that."""

    def __init__(self, model: str, request_id: str = "") -> None:
        self._id = request_id or f"chatcmpl-{uuid.uuid4().hex}"
        self._model = model
        self._created = int(time.time())
        # The same bytes begin each of hundreds of events.
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._role = b'{"role":"assistant","content":'

    def event(self, chunk: Chunk) -> bytes:
        """A piece of the text; the first one also says who speaks."""
        role, self._role = self._role, b'{"content":'
        delta = role + orjson.dumps(chunk.text)
        return b'%b,"choices":[{"index":0,"delta":%b},"finish_reason":null}],"tokens":%d}\n\n' % (
            self._head,
            delta,
            chunk.tokens,
        )

    def end(self, chunk: Chunk, wants_usage: bool) -> bytes:
        """The last piece, if there is text in it, why it ended, the usage if asked for, and the end mark."""
        piece = self.event(chunk) if chunk.text else b""
        finish = b'%b,"choices":[{"index":0,"delta":{},"finish_reason":"%b"}],"tokens":%d}\n\n' % (
            self._head,
            (chunk.finish or "stop").encode(),
            0 if chunk.text else chunk.tokens,
        )
        usage = b""
        if wants_usage and chunk.usage is not None:
            usage = b'%b,"choices":[],"usage":%b}\n\n' % (self._head, orjson.dumps(usage_body(chunk.usage)))
        return piece + finish + usage + DONE

    def whole(self, text: str, finish: Finish, usage: Usage | None) -> dict[str, Any]:
        """The answer to a request that did not ask for a stream."""
        message = {"role": "assistant", "content": text}
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": usage_body(usage) if usage else None,
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def card_body(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": "parley",
        "max_model_len": card.context,
        "engine": card.engine,
        "ready": card.ready,
        "quantization": card.quantization,
    }


def error_body(error: EngineError) -> dict[str, Any]:
    kind = "invalid_request_error" if 400 <= error.status < 429 else "server_error"
    if isinstance(error, Overloaded):
        kind = "rate_limit_error"
    return {"error": {"message": str(error), "type": kind, "code": error.code, "param": None, "status": error.status}}
