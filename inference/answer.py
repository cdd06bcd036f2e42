"""An answer in the OpenAI shape, as the server writes it: events of a stream, or one object. Pure bytes and dicts."""

import base64
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from inference.protocol import Chunk, Embeddings, EngineError, Logprob, ModelCard, Overloaded, Picked, ToolCall, Usage

DONE = b"data: [DONE]\n\n"


class Answer:
    """One answer by `model`. Our events also say how many tokens they hold ("tokens"), and the first, with `early`, how
    many the prompt has ("prompt_tokens"); other readers ignore that."""

    def __init__(self, model: str, request_id: str = "", early: bool = False) -> None:
        self._id = request_id or f"chatcmpl-{uuid.uuid4().hex}"
        self._model = model
        self._early = early
        self._created = int(time.time())
        # The same bytes begin each of hundreds of events.
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._role = b'"role":"assistant",'

    def event(self, chunk: Chunk) -> bytes:
        """A piece of the answer; the first one also says who speaks. Reasoning has an event of its own."""
        if chunk.reasoning and chunk.text:
            thought = replace(chunk, text="", tokens=0, logprobs=())
            return self.event(thought) + self.event(replace(chunk, reasoning="", prompt_tokens=None))
        role, self._role = self._role, b""
        word, piece = (b"reasoning_content", chunk.reasoning) if chunk.reasoning else (b"content", chunk.text)
        delta = b'{%b"%b":%b}' % (role, word, orjson.dumps(piece))
        if chunk.logprobs:
            delta += b',"logprobs":' + orjson.dumps(_logprobs(chunk.logprobs))
        prompt = chunk.prompt_tokens if self._early else None
        read = b"" if prompt is None else b',"prompt_tokens":%d' % prompt
        return b'%b,"choices":[{"index":0,"delta":%b,"finish_reason":null}],"tokens":%d%b}\n\n' % (
            self._head,
            delta,
            chunk.tokens,
            read,
        )

    def end(self, chunk: Chunk, wants_usage: bool) -> bytes:
        """The last piece, if there is anything in it, the calls, why it ended, the usage if asked for, the end mark."""
        piece = b""
        if chunk.text or chunk.reasoning or chunk.logprobs or (self._early and chunk.prompt_tokens is not None):
            piece = self.event(chunk)
        calls = b"".join(self._call(index, call) for index, call in enumerate(chunk.calls))
        finish = b'%b,"choices":[{"index":0,"delta":{},"finish_reason":"%b"}],"tokens":%d}\n\n' % (
            self._head,
            (chunk.finish or "stop").encode(),
            0 if piece else chunk.tokens,
        )
        usage = b""
        if wants_usage and chunk.usage is not None:
            usage = b'%b,"choices":[],"usage":%b}\n\n' % (self._head, orjson.dumps(usage_body(chunk.usage)))
        return piece + calls + finish + usage + DONE

    def _call(self, index: int, call: ToolCall) -> bytes:
        """A call in two events, as OpenAI sends them: which it is, then its arguments."""
        role, self._role = self._role, b""
        named = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        argued = {"index": index, "function": {"arguments": call.arguments}}
        return b"".join(
            b'%b,"choices":[{"index":0,"delta":{%b"tool_calls":[%b]},"finish_reason":null}],"tokens":0}\n\n'
            % (self._head, opening, orjson.dumps(delta))
            for opening, delta in ((role, named), (b"", argued))
        )

    def whole(self, whole: Chunk, logprobs: Sequence[Picked] | None = None) -> dict[str, Any]:
        """The answer to a request that did not ask for a stream, which is one chunk here. `logprobs` None: they were
        not asked for."""
        message: dict[str, Any] = {"role": "assistant", "content": whole.text}
        if whole.reasoning:
            message["reasoning_content"] = whole.reasoning
        if whole.calls:
            message["content"] = whole.text or None
            message["tool_calls"] = [call_body(call) for call in whole.calls]
        choice = {"index": 0, "message": message, "finish_reason": whole.finish}
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [{**choice, "logprobs": None if logprobs is None else _logprobs(logprobs)}],
            "usage": usage_body(whole.usage) if whole.usage else None,
        }


def call_body(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


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
