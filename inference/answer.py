"""An answer in the OpenAI shape, as the server writes it: events of a stream, or one object. Pure bytes and dicts."""

import base64
import struct
import time
import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from inference.protocol import Chunk, Embeddings, EngineError, Finish, Logprob, ModelCard, Overloaded, Picked, Usage

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
        delta = role + orjson.dumps(chunk.text) + b"}"
        if chunk.logprobs:
            delta += b',"logprobs":' + orjson.dumps(_logprobs(chunk.logprobs))
        return b'%b,"choices":[{"index":0,"delta":%b,"finish_reason":null}],"tokens":%d}\n\n' % (
            self._head,
            delta,
            chunk.tokens,
        )

    def end(self, chunk: Chunk, wants_usage: bool) -> bytes:
        """The last piece, if there is anything in it, why it ended, the usage if asked for, and the end mark."""
        piece = self.event(chunk) if chunk.text or chunk.logprobs else b""
        finish = b'%b,"choices":[{"index":0,"delta":{},"finish_reason":"%b"}],"tokens":%d}\n\n' % (
            self._head,
            (chunk.finish or "stop").encode(),
            0 if piece else chunk.tokens,
        )
        usage = b""
        if wants_usage and chunk.usage is not None:
            usage = b'%b,"choices":[],"usage":%b}\n\n' % (self._head, orjson.dumps(usage_body(chunk.usage)))
        return piece + finish + usage + DONE

    def whole(
        self, text: str, finish: Finish, usage: Usage | None, logprobs: Sequence[Picked] | None = None
    ) -> dict[str, Any]:
        """The answer to a request that did not ask for a stream. `logprobs` None: they were not asked for."""
        told = None if logprobs is None else _logprobs(logprobs)
        message = {"role": "assistant", "content": text}
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": told}],
            "usage": usage_body(usage) if usage else None,
        }


def _logprobs(picked: Sequence[Picked]) -> dict[str, Any]:
    content = [{**_logprob(one.chosen), "top_logprobs": [_logprob(other) for other in one.top]} for one in picked]
    return {"content": content, "refusal": None}


def _logprob(one: Logprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.raw)}


def embeddings_body(model: str, embeddings: Embeddings, encoding: str) -> dict[str, Any]:
    """Vectors as lists of numbers, or, for the `encoding` "base64", as little-endian 32-bit floats in that."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if encoding == "base64" else vector}
        for index, vector in enumerate(embeddings.vectors)
    ]
    usage = {"prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


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
        "state": card.state,
        "price_class": card.price_class,
        "abilities": card.abilities,
    }


def error_body(error: EngineError) -> dict[str, Any]:
    kind = "invalid_request_error" if 400 <= error.status < 429 else "server_error"
    if isinstance(error, Overloaded):
        kind = "rate_limit_error"
    return {"error": {"message": str(error), "type": kind, "code": error.code, "param": None, "status": error.status}}
