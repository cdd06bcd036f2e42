"""The JSON bodies that the server takes, checked by pydantic, and the `Request` they stand for.

What contradicts itself is refused rather than guessed at.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, Field, StrictBool, StringConstraints, ValidationError, model_validator

from inference.protocol import BadRequest, Message, Request, Sampling, Tool, ToolCall
from inference.schema import schema_in

Stop = Annotated[str, StringConstraints(min_length=1, max_length=500)]
User = Annotated[str, StringConstraints(max_length=512)]  # The queue remembers who was there.
Text = Annotated[str, StringConstraints(min_length=1)]
NOT_OFFERED = ("functions", "logit_bias", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
MOST_TEXTS = 2_048
MOST_TOOLS = 128

GATHER_MS = 160  # For whoever does not say. On two cores each token by itself would cost some 5 % of the model's speed.


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Called(BaseModel):
    name: Name
    arguments: str = ""


class _Call(BaseModel):
    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: _Called


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: Annotated[list[_Call], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: str | None = Field(None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing, which only a message with tool_calls may do without")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a tool's message, and no other, says in tool_call_id which call it is the result of")
        return self

    def plain(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ())
        return Message("system" if self.role == "developer" else self.role, text, calls, self.tool_call_id or "")


class _Function(BaseModel):
    name: Name
    description: Annotated[str, StringConstraints(max_length=16_384)] | None = None
    parameters: dict[str, Any] | None = None


class _Tool(BaseModel):
    type: Literal["function"]
    function: _Function

    def plain(self) -> Tool:
        function = self.function
        parameters = "" if function.parameters is None else orjson.dumps(function.parameters).decode()
        return Tool(function.name, function.description or "", parameters)


class _Named(BaseModel):
    name: Name


class _Choice(BaseModel):
    type: Literal["function"]
    function: _Named


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Conversation(BaseModel):
    """What a completion and a count have in common. `continue_final_message`: the last message is the answer so far."""

    model: str = ""
    messages: list[_Message] = Field(min_length=1)
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool = False
    tools: Annotated[list[_Tool], Field(max_length=MOST_TOOLS)] | None = None

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that may be called. Raises `BadRequest` if two have the same name."""
        tools = tuple(tool.plain() for tool in self.tools or ())
        if len({tool.name for tool in tools}) < len(tools):
            raise BadRequest("two tools have the same name")
        return tools

    def split(self) -> tuple[tuple[Message, ...], str]:
        """The messages that ask, and the answer so far, raw: what the model thought stands in its <think> tags."""
        messages = tuple(message.plain() for message in self.messages)
        if not self.continue_final_message:
            return messages, ""
        if self.add_generation_prompt:
            raise BadRequest("continue_final_message and add_generation_prompt exclude each other")
        if messages[-1].role != "assistant":
            raise BadRequest("continue_final_message needs an assistant's message at the end")
        if messages[-1].tool_calls:
            raise BadRequest("continue_final_message goes on with text, not with tool_calls")
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
    top_k: int | None = Field(None, ge=-1, le=2**31 - 1)  # -1 is vLLM's word for none, as 0 is.
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    logprobs: StrictBool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    grammar: str | None = Field(None, max_length=16_384)
    tool_choice: Literal["auto", "none", "required"] | _Choice | None = None
    n: Literal[1] | None = None
    user: User | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def request(self, headers: Mapping[str, str]) -> Request:
        """The request; what is about its transport and its turn is in headers, which other servers ignore."""
        messages, continue_from = self.split()
        tools = self.offered
        return Request(
            model=self.model,
            messages=messages,
            sampling=self.sampling(),
            continue_from=continue_from,
            request_id=headers.get("X-Request-Id", ""),
            user=self.user or "",
            weight=_count(headers.get("X-Parley-Weight", ""), 1),
            gather_ms=_count(headers.get("X-Parley-Gather-Ms", ""), GATHER_MS, least=0),
            max_wait_ms=_count(headers.get("X-Parley-Max-Wait-Ms", ""), 0, most=86_400_000),
            tools=tools,
            tool_choice=self._choice(tools),
        )

    def _choice(self, tools: Sequence[Tool]) -> str:
        if isinstance(self.tool_choice, _Choice):
            name = self.tool_choice.function.name
            if name not in {tool.name for tool in tools}:
                raise BadRequest(f"tool_choice names {name!r}, which is none of the tools")
            return name
        if self.tool_choice == "required" and not tools:
            raise BadRequest("tool_choice needs tools to choose from")
        return self.tool_choice or "auto"

    def sampling(self) -> Sampling:
        """How to pick tokens. Raises `BadRequest` for what contradicts itself or cannot be held to."""
        if self.top_logprobs and not self.logprobs:
            raise BadRequest("top_logprobs needs logprobs: true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise BadRequest("max_tokens and max_completion_tokens are two names of one number, but differ")
        schema = schema_in(self.response_format)
        if self.grammar and schema:
            raise BadRequest("grammar and response_format exclude each other")
        default = Sampling(0)
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or 0,
            temperature=_or(self.temperature, default.temperature),
            top_p=_or(self.top_p, default.top_p),
            seed=self.seed,
            stop=() if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            presence_penalty=_or(self.presence_penalty, default.presence_penalty),
            frequency_penalty=_or(self.frequency_penalty, default.frequency_penalty),
            top_k=max(0, self.top_k or 0),
            min_p=_or(self.min_p, default.min_p),
            typical_p=_or(self.typical_p, default.typical_p),
            repetition_penalty=_or(self.repetition_penalty, default.repetition_penalty),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=schema,
            grammar=self.grammar or "",
        )


class Embedding(BaseModel):
    """The body of `POST /v1/embeddings`."""

    model: str = ""
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None
    user: User | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class Tokenize(BaseModel):
    """The body of `POST /tokenize` for a plain text."""

    model: str = ""
    prompt: str


class Detokenize(BaseModel):
    """The body of `POST /detokenize`."""

    model: str = ""
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=1_000_000)]


class Load(BaseModel):
    """The body of `POST /models/load`. `switch`: all other models are unloaded before. `stream`: tell the progress."""

    model: str
    switch: StrictBool = False
    stream: StrictBool = False


class Unload(BaseModel):
    """The body of `POST /models/unload`. `drain_s`: seconds after which answers that still run are cut off."""

    model: str
    drain_s: float = Field(60.0, ge=0, le=3600)


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


def _count(header: str, default: int, least: int = 1, most: int = 1_000) -> int:
    number = int(header) if len(header) < 10 and header.isascii() and header.isdecimal() else -1
    return number if least <= number <= most else default
