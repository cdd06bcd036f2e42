"""The words that the service, its engines and its clients share: plain data and errors, no input or output.

Units: tokens are the engine's own, counted by the engine; times are seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for. `arguments` is JSON text as the model wrote it, which need not be valid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask to have called. `parameters` is the JSON text of a JSON schema."""

    name: str
    description: str = ""
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt. `role` is "system", "user", "assistant" or "tool".

    An assistant's message may ask for `tool_calls`; a tool's is the result of the call `tool_call_id`.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


def needs_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> bool:
    """Whether only a model that calls tools can read this prompt: it has tools in it, or calls and results of some."""
    return bool(tools) or any(message.role == "tool" or message.tool_calls for message in messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens. `max_tokens` bounds the newly generated ones; `temperature` 0 is greedy.

    A `stop` string ends the answer and is not part of it. `seed` None lets the engine choose. Off are `top_k` 0,
    `min_p` 0, `typical_p` 1 and `repetition_penalty` 1. `logprobs`: how many alternatives are returned for each token
    beside the chosen one (0 to 20), None for no log probabilities at all. `json_schema` is the JSON text of a schema
    that the answer must fit, `grammar` a GBNF grammar; at most one of them is set.
    """

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    json_schema: str = ""
    grammar: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    `continue_from` is the text of the answer so far, when its first owner or its engine died: the engine goes on
    right behind it, and that text is not sent again. `continue_reasoning` is the same for what it thought before it.
    `tools` may be called; `tool_choice` is "auto", "none", "required", or the name of the one that must be.
    `user` (opaque) and `weight` (share of the service that this user's tier is worth) are for the queue; neither
    changes the answer. `gather_ms` is how long text may be gathered into one chunk when many answers run: a reader that
    asks for it is cheaper to serve (see `pacing` and `gathering`). `max_wait_ms` is how long it may wait for its turn
    before it is refused as `Overloaded`; 0 is for ever.
    `affinity` (opaque) names what the request goes on with, a conversation say: a client of several replicas sends it
    to the one that has that in its prefix cache. It does not travel.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    continue_from: str = ""
    request_id: str = ""
    user: str = ""
    weight: int = 1
    gather_ms: int = 0
    max_wait_ms: int = 0
    affinity: str = ""
    continue_reasoning: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the engine counted for one request.

    `prompt_tokens` is everything it read, `continue_from` included, of which `cached_tokens` cost no work.
    `completion_tokens` is what this request newly generated: of a continued answer only the new part, so the whole
    answer's count is the sum over its requests' deliveries.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Logprob:
    """One token and the natural logarithm of its probability. `raw` are its bytes, which may be part of a character."""

    token: str
    logprob: float
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Picked:
    """The token that was picked at one place, and the likeliest ones there, likeliest first."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer: `tokens` new tokens that gave `text` (either may be empty or 0).

    A chunk holds whatever one read brought, so it may be many tokens. The last chunk, and only it, has `finish`, and
    with it `usage` (None if a foreign server sends none) and the whole `calls` that a finish of "tool_calls" means.
    `reasoning` is what a thinking model thought before `text`. `prompt_tokens` is how many tokens the engine read: in
    the first chunk of our own service, with the usage of other servers that send one (None: not in this chunk).
    `logprobs` are of the chunk's tokens, if they were asked for.
    """

    text: str
    tokens: int
    finish: Finish | None = None
    usage: Usage | None = None
    logprobs: tuple[Picked, ...] = ()
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each text that was asked for, in order, all of the same length; `tokens` were read for them."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int


State = Literal["unloaded", "off", "checking", "loading", "ready", "draining", "failed"]
"""What a model does. "unloaded" is loaded when somebody asks for it, "off" only by an administrator; "checking" hashes
its file; "draining" ends what runs before it is unloaded."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that a service offers. `context` is the window of one request in tokens, 0 if unknown.

    `ready`: it answers when asked, though it may have to be loaded first. `state` and `price_class` (what its catalogue
    says it is worth) are empty for foreign servers.
    """

    id: str
    context: int
    engine: str = ""
    ready: bool = True
    quantization: str = ""
    state: State | Literal[""] = ""
    price_class: str = ""
    abilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The place of a waiting request: `position` 1 is next. `eta_s` goes by how long others took lately."""

    position: int
    eta_s: float


class EngineError(Exception):
    """Something went wrong in the service. `retryable`: the same request may succeed later or elsewhere.

    `status` and `code` are how the error looks on the wire.
    """

    retryable: ClassVar[bool] = False
    status: ClassVar[int] = 500
    code: ClassVar[str] = "engine_error"


class Overloaded(EngineError):
    """No room now (queue full, or the model is still loading). Try again after `retry_after` seconds."""

    retryable = True
    status = 429
    code = "overloaded"

    def __init__(self, message: str = "the engine is busy", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CannotCount(EngineError):
    """The server has no way to count a prompt's tokens before it reads them; it may well generate."""

    status = 501
    code = "cannot_count"


class ContextTooLong(EngineError):
    """The prompt does not fit the model's window."""

    status = 400
    code = "context_length_exceeded"


class BadRequest(EngineError):
    """The request makes no sense to the engine; the message says why."""

    status = 400
    code = "invalid_request"


class ModelNotFound(EngineError):
    """The service has no such model."""

    status = 404
    code = "model_not_found"


class EngineDied(EngineError):
    """The engine went away, before the answer or in the middle of it. What it had sent so far is good: ask again with
    `continue_from`."""

    retryable = True
    status = 502
    code = "engine_died"


class Damaged(EngineError):
    """A model's file is not what it should be."""

    code = "model_damaged"


class TooLittleMemory(EngineError):
    """There is not enough memory to load the model, whatever else were unloaded."""

    status = 507
    code = "too_little_memory"
