"""A chat completion as a program asks for it: OpenAI's fields, strictly read, into what a turn takes.

Fields that change nothing here are ignored; those that would change the meaning of the answer and that we do
not have are refused, because an answer that silently means something else is worse than none.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, FailFast, Field, ValidationError

from chat_app.gateway.completion_bounds import MOST_MESSAGES, MOST_TOOLS, check_counts, check_values
from chat_app.gateway.completion_fields import Fields
from chat_app.gateway.completion_messages import MessageField, read_messages
from chat_app.gateway.completion_tools import ToolField, Tools, read_tools
from chat_app.gateway.errors import ApiError, wrong
from inference.protocol import BadRequest, Message, Sampling
from inference.schema import schema_in

# Field → the values of it that mean nothing; any other is refused. Log probabilities are among them because an answer
# goes through the generation log, which does not keep them.
_NOTHING: tuple[Any, ...] = (None, False, 0, [], {}, "")
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("functions", "logprobs", "top_logprobs", "logit_bias", "audio"), _NOTHING),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar"), _NOTHING),
    "web_search_options": (None,),
    "modalities": (None, ["text"]),
    "n": (None, 1),
}


MOST_MODEL = 256
"""Characters of a model's name."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What a program wants. `messages`, `sampling` and `tools` are the turn's; a `max_tokens` of 0 means: as long as
    plan, model and deployment allow."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    include_usage: bool
    tools: Tools


def read_completion(raw: bytes) -> CompletionRequest:
    """Read a request's body. Raises `ApiError` (400), which names the field that is wrong."""
    body = _validated(_object(raw))
    messages = read_messages(body.messages)
    tools = read_tools(body.tools or (), body.tool_choice)
    if body.stream_options is not None and not body.stream:
        raise wrong("stream_options", "is only allowed together with “stream”: true")
    plain = Sampling(max_tokens=0)
    sampling = Sampling(
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        temperature=plain.temperature if body.temperature is None else body.temperature,
        top_p=plain.top_p if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(body.stop or ()),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        top_k=max(0, body.top_k or 0),
        min_p=body.min_p or 0.0,
        typical_p=body.typical_p or plain.typical_p,
        repetition_penalty=body.repetition_penalty or plain.repetition_penalty,
        json_schema=_schema(body.response_format),
    )
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return CompletionRequest(body.model or "", messages, sampling, bool(body.stream), include_usage, tools)


def _schema(response_format: Any) -> str:
    try:
        return schema_in(response_format)
    except BadRequest as error:
        raise wrong("response_format", str(error)) from None


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


StopString = Annotated[str, Field(min_length=1, max_length=200)]
Stops = Annotated[list[StopString], Field(max_length=4)]


class _StreamOptions(Fields):
    include_usage: bool | None = None


class _Body(Fields):
    model: str | None = Field(None, max_length=MOST_MODEL)
    messages: Annotated[list[MessageField], FailFast()] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Annotated[Stops | None, BeforeValidator(_listed)] = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    response_format: Any = None
    tools: list[ToolField] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(None, max_length=512)


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise ApiError(400, "invalid_json", "The request has no body. Send a JSON object.")
    check_values(raw)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    for field, harmless in _UNSUPPORTED.items():
        if field in body and body[field] not in harmless:
            raise wrong(field, "is not supported here; leave it out", code="unsupported_parameter")
    check_counts(body)
    return body


def _validated(fields: dict[str, Any]) -> _Body:
    try:
        return _Body.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise wrong(_path(first["loc"]), first["msg"].removeprefix("Value error, ")) from None


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
