"""What every engine must do. Knows no HTTP, no queue, no clients."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from inference.protocol import Chunk, Embeddings, Message, Request, Tool

Ability = Literal["json_schema", "grammar", "logprobs", "embeddings", "tools"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can carry, once loaded.

    `context`: tokens that one request may hold, prompt and answer together. `slots`: requests that run at once.
    `kv_tokens`: tokens that all running requests may hold together; 0 when every slot has a whole context of its own.
    `abilities`: what it can do beside answering; the service refuses requests for anything else with `BadRequest`.
    `gathers`: it heeds `Request.gather_ms` itself. `counts`: `prompt` returns the true tokens, not an estimate.
    `parts`: what the model thinks comes in `Chunk.reasoning`; else it is in the text, in the model's raw <think> tags.
    `healed`: how often it has brought itself back after it had died; None for an engine that is to be loaded again.
    """

    model: str
    engine: str
    context: int
    slots: int
    kv_tokens: int = 0
    quantization: str = ""
    abilities: frozenset[Ability] = frozenset()
    healed: int | None = None
    gathers: bool = False
    counts: bool = True
    parts: bool = False


class Engine(Protocol):
    """One model, loaded or not. Every method raises only `inference.protocol.EngineError`s.

    The service never has more than `slots` streams open and never asks for more tokens than `context` holds.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def load(self) -> None:
        """Load the model and run it once, so that the first user finds it warm."""
        ...

    async def unload(self) -> None:
        """Give back everything. Open streams end with `EngineDied`."""
        ...

    async def health(self) -> bool:
        """Whether it is loaded and answers."""
        ...

    async def apply_template(self, messages: Sequence[Message], continue_from: str = "") -> str:
        """The prompt as the model reads it, up to and with the beginning of the answer."""
        ...

    async def tokenize(self, text: str) -> list[int]:
        """The tokens of a text as it stands, without template."""
        ...

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        ...

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        """The tokens that `stream` will read for this conversation. Cheap when asked again: engines keep the last."""
        ...

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer, first chunk at once; the last has `finish` and `usage`. `continue_from` is raw: what was thought
        stands in it in <think> tags, and `continue_reasoning` is empty.

        Closing the generator stops the engine and returns when its slot is free: within one decode step, or within
        one batch of the prompt.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """A vector for each text. Only for engines that are able to, others raise `BadRequest`."""
        ...
