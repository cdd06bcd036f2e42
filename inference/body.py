"""The JSON bodies that the server takes, checked by pydantic, and the `Request` they stand for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, Field, StrictBool, StringConstraints, ValidationError

from inference.protocol import BadRequest, Message, Request, Sampling

Stop = Annotated[str, StringConstraints(min_length=1, max_length=500)]
NOT_OFFERED = ("tools", "functions", "response_format", "logprobs", "logit_bias", "guided_json")


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def plain(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Conversation(BaseModel):
    """What a completion and a count have in common. `continue_final_message`: the last message is the answer so far."""

    model: str = ""
    messages: list[_Message] = Field(min_length=1)
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool = False

    def split(self) -> tuple[tuple[Message, ...], str]:
        """The messages that ask, and the text of the answer so far."""
        messages = tuple(message.plain() for message in self.messages)
        if not self.continue_final_message:
            return messages, ""
        if self.add_generation_prompt:
            raise BadRequest("continue_final_message and add_generation_prompt exclude each other")
        if messages[-1].role != "assistant":
            raise BadRequest("continue_final_message needs an assistant's message at the end")
        if len(messages) == 1:
            raise BadRequest("there must be a message before the one that is continued")
        return messages[:-1], messages[-1].content


class Completion(Conversation):
    """The body of `POST /v1/chat/completions`. Without `max_tokens` the service chooses."""

    stream: StrictBool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=64)] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    n: Literal[1] | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def request(self, headers: Mapping[str, str]) -> Request:
        """The request; what is about its transport and its turn is in headers, which other servers ignore."""
        messages, continue_from = self.split()
        stop = () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        default = Sampling(0)
        return Request(
            model=self.model,
            messages=messages,
            sampling=Sampling(
                max_tokens=self.max_completion_tokens or self.max_tokens or 0,
                temperature=_or(self.temperature, default.temperature),
                top_p=_or(self.top_p, default.top_p),
                seed=self.seed,
                stop=stop,
                presence_penalty=_or(self.presence_penalty, 0.0),
                frequency_penalty=_or(self.frequency_penalty, 0.0),
            ),
            continue_from=continue_from,
            request_id=headers.get("X-Request-Id", ""),
            user=self.user or "",
            weight=_count(headers.get("X-Parley-Weight", ""), 1),
            gather_ms=_count(headers.get("X-Parley-Gather-Ms", ""), 0),
            max_wait_ms=_count(headers.get("X-Parley-Max-Wait-Ms", ""), 0, most=86_400_000),
        )


class Tokenize(BaseModel):
    """The body of `POST /tokenize` for a plain text."""

    model: str = ""
    prompt: str


class Detokenize(BaseModel):
    """The body of `POST /detokenize`."""

    model: str = ""
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=1_000_000)]


B = TypeVar("B", bound=BaseModel)


def fields(raw: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises `BadRequest`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def parse(kind: type[B], body: dict[str, Any]) -> B:
    """The body as `kind`. Raises `BadRequest` that says in one line what is wrong and where."""
    if asked := [key for key in NOT_OFFERED if body.get(key)]:
        raise BadRequest(f"this service does not offer {', '.join(asked)}")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BadRequest(f"{where}: {first['msg']}") from None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _count(header: str, default: int, most: int = 1_000) -> int:
    return int(header) if header.isascii() and header.isdecimal() and 1 <= int(header[:9]) <= most else default
