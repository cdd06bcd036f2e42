"""The OpenAI shape in JSON, as a client writes and reads it: requests, usage, models, errors.

Knows no sockets. `continue_from` travels as vLLM has it: a final assistant message with `continue_final_message`;
`continue_reasoning` stands in it in front, in the model's <think> tags.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import aiohttp
import orjson

from inference.protocol import (
    BadRequest,
    ContextTooLong,
    Damaged,
    Embeddings,
    EngineDied,
    EngineError,
    Finish,
    Logprob,
    Message,
    ModelCard,
    ModelNotFound,
    Overloaded,
    Picked,
    Request,
    Sampling,
    State,
    Tool,
    TooLittleMemory,
    Usage,
)
from inference.thinking import raw

# Sent only where they differ from what they are without being sent.
OPTIONAL = ("presence_penalty", "frequency_penalty", "top_k", "min_p", "typical_p", "repetition_penalty", "grammar")
PLAIN = Sampling(0)
# vLLM has no code for it, only words.
TOO_LONG = "maximum context length"
STATES: tuple[State, ...] = get_args(State)
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 300.0
"""What a busy server's `Retry-After` may come to: after none it would be asked at once, after an endless one never."""
GONE = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, TimeoutError)


def completion_body(request: Request) -> bytes:
    """The JSON body of a streamed chat completion."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        **conversation(request.messages, raw(request.continue_reasoning, request.continue_from), request.tools),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = sampling.stop
    for word in OPTIONAL:
        if (value := getattr(sampling, word)) != getattr(PLAIN, word):
            body[word] = value
    if "repetition_penalty" in body:
        body["repeat_penalty"] = sampling.repetition_penalty  # llama-server's word for it.
    if sampling.logprobs is not None:
        # llama-server takes 0 alternatives to mean no log probabilities.
        body |= {"logprobs": True, "top_logprobs": max(1, sampling.logprobs)}
    if sampling.json_schema:
        described = {"name": "answer", "strict": True, "schema": orjson.Fragment(sampling.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    if request.tools and request.tool_choice != "auto":
        named = {"type": "function", "function": {"name": request.tool_choice}}
        body["tool_choice"] = request.tool_choice if request.tool_choice in ("none", "required") else named
    if request.user:
        body["user"] = request.user
    return orjson.dumps(body)


def error_from(status: int, error: dict[str, Any], retry_after: str | None = None) -> EngineError:
    """The typed error that an HTTP status and an OpenAI-shaped error object stand for."""
    message = str(error.get("message") or f"the engine answered with status {status}")
    kinds = {str(error.get("code")), str(error.get("type"))}
    if kinds & {"context_length_exceeded", "exceed_context_size_error"} or (status == 400 and TOO_LONG in message):
        return ContextTooLong(message)
    for kind in (EngineDied, Damaged, TooLittleMemory):
        if kind.code in kinds:
            return kind(message)
    if status in (429, 503):
        return Overloaded(message, _seconds(retry_after))
    if status == 404:
        return ModelNotFound(message)
    if status in (400, 413, 422, 501):
        return BadRequest(message)
    if status in (401, 403):
        return EngineError(f"the engine refused our key: {message}")
    return EngineDied(message) if status >= 500 else EngineError(message)


def error_in(raw: bytes) -> dict[str, Any]:
    """The error object in the body of a refused request, whatever the body is."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {"message": raw[:200].decode("utf-8", "replace")} if raw else {}
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"message": str(error)}


def error_event(event: Any) -> EngineError | None:
    """The error that an event in mid-stream reports, if it does, or is, if it is no object."""
    if not isinstance(event, dict):
        return EngineDied("the engine sent something that is no event")
    error = event.get("error")
    if not error:
        return None
    if not isinstance(error, dict):
        return EngineError(str(error))
    status = next((value for key in ("status", "code") if isinstance(value := error.get(key), int)), 500)
    return error_from(status, error)


def conversation(messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> dict[str, Any]:
    """The messages and tools, and vLLM's two switches when the last message is an answer to go on with, as the model
    wrote it: what it thought stands in it in <think> tags."""
    body: dict[str, Any] = {"messages": [_message(message) for message in messages]}
    if tools:
        body["tools"] = [{"type": "function", "function": function_body(tool)} for tool in tools]
    if continue_from:
        body["messages"].append({"role": "assistant", "content": continue_from})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["content"] = message.content or None
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def function_body(tool: Tool) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tool.name}
    if tool.description:
        body["description"] = tool.description
    if tool.parameters:
        body["parameters"] = orjson.Fragment(tool.parameters)
    return body


def finish_in(choice: dict[str, Any]) -> Finish | None:
    """Why a choice ended; None while it goes on. Reasons that are not ours count as "stop"."""
    reason = choice.get("finish_reason")
    if not reason:
        return None
    if reason in ("tool_calls", "function_call"):
        return "tool_calls"
    return "length" if reason == "length" else "stop"


def usage_in(event: dict[str, Any]) -> Usage | None:
    """The usage that an event or an answer carries."""
    usage = event.get("usage")
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )


def picked_in(choice: dict[str, Any], most: int) -> list[Picked]:
    """The log probabilities that a choice carries, with at most `most` alternatives for each token."""
    content = (choice.get("logprobs") or {}).get("content") or ()
    return [
        Picked(_logprob(entry), tuple(map(_logprob, (entry.get("top_logprobs") or ())[:most]))) for entry in content
    ]


def _logprob(entry: dict[str, Any]) -> Logprob:
    token, raw = str(entry["token"]), entry.get("bytes")
    return Logprob(token, float(entry["logprob"]), token.encode() if raw is None else bytes(raw))


def embeddings_in(answer: dict[str, Any], count: int) -> Embeddings:
    """The `count` vectors that an answer to `/v1/embeddings` holds. Raises `EngineError` for anything else."""
    try:
        listed = sorted(answer["data"], key=lambda entry: int(entry["index"]))
        vectors = tuple(tuple(map(float, entry["embedding"])) for entry in listed)
        tokens = int(answer["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError("/v1/embeddings did not answer with vectors") from error
    if len(vectors) != count or len({len(vector) for vector in vectors}) != 1:
        raise EngineError("/v1/embeddings did not answer with one vector for each text")
    return Embeddings(vectors, tokens)


def card_in(entry: dict[str, Any]) -> ModelCard:
    """A model as `/v1/models` lists it: ours, vLLM's and llama.cpp's ways of naming the window."""
    context = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx_train") or 0
    return ModelCard(
        id=str(entry.get("id")),
        context=int(context),
        engine=str(entry.get("engine") or entry.get("owned_by") or ""),
        ready=bool(entry.get("ready", True)),
        quantization=str(entry.get("quantization") or ""),
        state=next((state for state in STATES if state == entry.get("state")), ""),
        price_class=str(entry.get("price_class") or ""),
        abilities=tuple(map(str, entry.get("abilities") or ())),
    )


def _seconds(header: str | None) -> float:
    """The pause that a `Retry-After` asks for, within bounds; a second where it names none, or a date, since nobody
    knows whether that server's clock is ours."""
    try:
        seconds = float(header or 1.0)
    except ValueError:
        return 1.0
    return 1.0 if math.isnan(seconds) else min(max(seconds, LEAST_PAUSE_S), LONGEST_PAUSE_S)


def words(error: BaseException) -> str:
    """What a socket's error means, never empty."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
