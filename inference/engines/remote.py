"""The engine for a model that runs elsewhere: any OpenAI-compatible server (vLLM, TabbyAPI, llama-server, our service).

What our service adds (queue, fair turns, limits, metrics) then stands in front of that server. It sends every request
once and on a connection of its own. It does not know when a closed stream's slot over there is free again, nor how
much that server has to do for others; it starts and stops nothing there.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from inference.client import InferenceClient
from inference.engines.base import Ability, Capabilities
from inference.engines.dialects import Dialect, Estimate, spoken_by
from inference.engines.plain import plain_arguments, plain_text
from inference.engines.prompts import Prompts
from inference.pacing import joined
from inference.protocol import (
    Chunk,
    Embeddings,
    EngineDied,
    EngineError,
    Message,
    ModelCard,
    ModelNotFound,
    Overloaded,
    Request,
    Tool,
    Usage,
)
from inference.stops import StopFilter

SLOTS = 64
HEALTH_S = 5.0
# Nobody says what it can do before it is asked; what it cannot, it refuses itself.
ABLE: frozenset[Ability] = frozenset(("json_schema", "grammar", "logprobs", "embeddings", "tools"))


class RemoteEngine:
    """`url` is the server's root, with or without "/v1"; `model` its name there, empty for the first that is listed.

    `context`: tokens one request may hold; 0 takes what the server says. `slots`: requests that are sent at once.
    `read_timeout`: seconds of silence after which an answer counts as broken off.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        model: str = "",
        context: int = 0,
        slots: int = SLOTS,
        read_timeout: float = 120.0,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._read_timeout = read_timeout
        self._capabilities = Capabilities(model, "remote", context, slots, abilities=ABLE, gathers=True, parts=True)
        self._client: InferenceClient | None = None
        self._dialect: Dialect | None = None
        self._has_health = False
        self._prompts = Prompts(self._read)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def load(self) -> None:
        """Find the server, the model and how it counts. Nothing is generated: that may cost money there.

        Raises `EngineDied` if nobody answers, `ModelNotFound` if the model is not listed, `Overloaded` while it is not
        ready, `EngineError` if the key is refused, the answers make no sense or nobody says how long its window is.
        """
        client = InferenceClient(self._url, self._key, read_timeout=self._read_timeout, pooled=False)
        try:
            card = self._chosen(await client.models())
            context = await self._window(client, card)
            self._dialect = await spoken_by(client, card.id)
            self._has_health = await client.health()
        except BaseException:
            await client.close()
            raise
        self._capabilities = replace(
            self._capabilities,
            model=card.id,
            context=context,
            quantization=card.quantization,
            counts=not isinstance(self._dialect, Estimate),
        )
        self._client = client

    async def unload(self) -> None:
        client, self._client = self._client, None
        self._prompts.clear()
        if client is not None:
            await client.close()

    async def health(self) -> bool:
        """Whether the server answers, lists the model as ready and, where it has a /health, says that it is well."""
        if self._client is None:
            return False
        try:
            async with asyncio.timeout(HEALTH_S):
                listed = await self._client.models()
                well = any(card.id == self._capabilities.model and card.ready for card in listed)
                return well and (not self._has_health or await self._client.health())
        except (EngineError, TimeoutError):
            return False

    async def apply_template(self, messages: Sequence[Message], continue_from: str = "") -> str:
        _, dialect = self._there()
        return await dialect.template(_plain(messages), plain_text(continue_from))

    async def tokenize(self, text: str) -> list[int]:
        """As the protocol says; of a server that cannot, as many numbers as `dialects.Estimate` estimates."""
        _, dialect = self._there()
        return await dialect.tokens(text)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        _, dialect = self._there()
        return await dialect.text(tokens)

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        """As the protocol says; of a server that cannot, as many numbers as `dialects.Estimate` estimates."""
        return await self._prompts.tokens(messages, continue_from, tools)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """As the protocol says, but closing returns once the connection is closed: the server frees its slot soon.

        The usage is the server's. Without one, or where an answer was cut here at a stop string, it is counted here:
        the prompt by `prompt`, the answer by the events that had text.
        """
        client, dialect = self._there()
        prompt = len(await self.prompt(request.messages, request.continue_from, request.tools))
        stop = request.sampling.stop
        stops = StopFilter(() if dialect.keeps_stops else stop)
        sent = replace(
            request,
            model=self._capabilities.model,
            messages=_plain(request.messages),
            continue_from=plain_text(request.continue_from),
            sampling=replace(request.sampling, stop=stop if dialect.keeps_stops else ()),
            # What is looked for here should be found before the server has gone on for long.
            gather_ms=request.gather_ms if dialect.keeps_stops or not stop else 0,
        )
        sent_tokens, counted = 0, 0
        held: list[Chunk] = []
        async with aclosing(client.stream(sent)) as chunks:
            async for chunk in chunks:
                counted += chunk.tokens
                text = stops.feed(chunk.text)
                if chunk.finish or stops.hit:
                    break
                held.append(replace(chunk, text=text))
                if text or chunk.reasoning:
                    sent_tokens = counted
                    yield joined(held)
                    held.clear()
        usage = chunk.usage or Usage(prompt, counted)
        # Events are not always tokens: some hold several, the last of all may have no text.
        last = replace(chunk, text=text + stops.end(), finish="stop" if stops.hit else chunk.finish, usage=usage)
        if stops.hit:
            last = replace(last, calls=())
        yield replace(joined([*held, last]), tokens=max(0, usage.completion_tokens - sent_tokens))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        client, _ = self._there()
        return await client.embed(self._capabilities.model, texts)

    async def _read(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool]) -> list[int]:
        _, dialect = self._there()
        return await dialect.prompt(_plain(messages), plain_text(continue_from), tools)

    def _there(self) -> tuple[InferenceClient, Dialect]:
        if self._client is None or self._dialect is None:
            raise EngineDied("the remote server has not been looked for yet, or no more")
        return self._client, self._dialect

    def _chosen(self, listed: Sequence[ModelCard]) -> ModelCard:
        wanted = self._capabilities.model
        card = next((card for card in listed if wanted in ("", card.id)), None)
        if card is None:
            names = ", ".join(repr(card.id) for card in listed) or "none at all"
            raise ModelNotFound(f"{self._url} has no model {wanted!r}; it lists {names}")
        if not card.ready:
            raise Overloaded(f"the model {card.id!r} at {self._url} is not ready yet")
        return card

    async def _window(self, client: InferenceClient, card: ModelCard) -> int:
        """The smallest of what was asked for, what the model has, and what a slot of llama-server has."""
        try:
            slot = (await client.ask("GET", "/props"))["default_generation_settings"]["n_ctx"]
        except (EngineError, KeyError, TypeError):
            slot = 0  # Only llama-server has /props.
        offered = (self._capabilities.context, card.context, slot)
        said = [tokens for tokens in offered if isinstance(tokens, int) and tokens > 0]
        if not said:
            raise EngineError(f"{self._url} does not say how many tokens {card.id!r} may hold: pass --context")
        return min(said)


def _plain(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(
        replace(
            message,
            content=plain_text(message.content),
            tool_calls=tuple(replace(call, arguments=plain_arguments(call.arguments)) for call in message.tool_calls),
        )
        for message in messages
    )
