"""The words that the service, its engines and its clients share. Plain data and errors; no behaviour, no input/output.

Units: tokens are the engine's own, counted by the engine; times are seconds.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt. `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens. `max_tokens` bounds the newly generated ones; `temperature` 0 is greedy.

    A `stop` string ends the answer and is not part of it. `seed` None lets the engine choose.
    """

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    `continue_from` is the text of the answer so far, when its first owner or its engine died: the engine goes on
    right behind it, and that text is not sent again. `user` (opaque) and `weight` (share of the service that this
    user's tier is worth) are for the queue; neither changes the answer. `gather_ms` is how long text may be gathered
    into one chunk when many answers run: a reader that asks for it is cheaper to serve (see `pacing`). `max_wait_ms` is
    how long it may wait for its turn before it is refused as `Overloaded`; 0 is for ever.
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
class Chunk:
    """A piece of the answer: `tokens` new tokens that gave `text` (either may be empty or 0).

    A chunk holds whatever one read brought, so it may be many tokens. The last chunk, and only it, has `finish`, and
    with it `usage` (None if a foreign server sends none).
    """

    text: str
    tokens: int
    finish: Finish | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that a service offers. `context` is the window of one request in tokens, 0 if unknown."""

    id: str
    context: int
    engine: str = ""
    ready: bool = True
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting request stands: `position` 1 is next. `eta_s` goes by how long others took lately."""

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
