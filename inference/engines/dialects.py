"""How servers are asked for tokens and templates, for which OpenAI's interface has no word.

Three ways: vLLM's (ours too), llama-server's, and none at all, where the count is an estimate. `spoken_by` finds out
which by asking. Knows nothing of streams.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from inference.client import InferenceClient
from inference.protocol import BadRequest, EngineDied, EngineError, Message, Overloaded, Tool
from inference.wire import conversation

BYTES_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 8
PROBE = (Message("user", "Hello"),)

logger = logging.getLogger(__name__)


class Dialect(Protocol):
    """`keeps_stops`: the server ends an answer before a stop string, and loses no text that only began like one."""

    @property
    def keeps_stops(self) -> bool: ...

    async def template(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> str: ...

    async def prompt(
        self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()
    ) -> list[int]: ...

    async def tokens(self, text: str) -> list[int]: ...

    async def text(self, tokens: Sequence[int]) -> str: ...


async def spoken_by(client: InferenceClient, model: str) -> Dialect:
    """The dialect of the server. Raises `EngineDied` or `Overloaded` if it cannot be asked now."""
    vllm, llama = Vllm(client, model), LlamaServer(client)
    for dialect in (vllm, llama):
        try:
            await dialect.prompt(PROBE, "")
        except (EngineDied, Overloaded):
            raise
        except EngineError as error:
            logger.debug("%s does not count: %s", type(dialect).__name__, error)
            continue
        if dialect is llama:
            await llama.read_size(model)
        return dialect
    logger.warning("the server of %s has no /tokenize: prompts are counted by an estimate", model)
    return Estimate()


class Vllm:
    """`POST /tokenize {model, messages | prompt} -> {count, tokens}` and `/detokenize`, as vLLM and our service have
    them."""

    keeps_stops = True

    def __init__(self, client: InferenceClient, model: str) -> None:
        self._client = client
        self._model = model

    async def template(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> str:
        # There is no other way to see it than what its tokens say.
        return await self.text(await self.prompt(messages, continue_from, tools))

    async def prompt(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> list[int]:
        answer = await self._client.ask(
            "POST", "/tokenize", {"model": self._model, **conversation(messages, continue_from, tools)}
        )
        if "count" not in answer:  # llama-server answers to anything.
            raise EngineError("/tokenize did not answer with a count")
        return _tokens_in(answer)

    async def tokens(self, text: str) -> list[int]:
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return _tokens_in(await self._client.ask("POST", "/tokenize", body))

    async def text(self, tokens: Sequence[int]) -> str:
        return _text_in(
            await self._client.ask("POST", "/detokenize", {"model": self._model, "tokens": list(tokens)}), "prompt"
        )


class LlamaServer:
    """`POST /apply-template {messages} -> {prompt}`, `/tokenize {content, ...} -> {tokens}` and `/detokenize`, as
    llama.cpp's server has them.

    It goes on with a last message that is the assistant's; older ones that do not read `continue_final_message` do so
    unless they were started with `--no-prefill-assistant`.
    """

    keeps_stops = False

    def __init__(self, client: InferenceClient) -> None:
        self._client = client
        self._vocabulary = 0

    async def read_size(self, model: str) -> None:
        """Learn how many tokens there are: one beyond them would be an error inside the server."""
        for entry in (await self._client.ask("GET", "/v1/models")).get("data") or ():
            if entry.get("id") == model:
                self._vocabulary = int((entry.get("meta") or {}).get("n_vocab") or 0)

    async def template(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> str:
        return _text_in(
            await self._client.ask("POST", "/apply-template", conversation(messages, continue_from, tools)), "prompt"
        )

    async def prompt(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> list[int]:
        text = await self.template(messages, continue_from, tools)
        return await self._tokenize({"content": text, "add_special": True, "parse_special": True})

    async def tokens(self, text: str) -> list[int]:
        return await self._tokenize({"content": text, "add_special": False, "parse_special": False})

    async def text(self, tokens: Sequence[int]) -> str:
        if self._vocabulary and not all(0 <= token < self._vocabulary for token in tokens):
            raise BadRequest(f"there is no such token: this model's run from 0 to {self._vocabulary - 1}")
        return _text_in(await self._client.ask("POST", "/detokenize", {"tokens": list(tokens)}), "content")

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        return _tokens_in(await self._client.ask("POST", "/tokenize", body))


class Estimate:
    """For a server that does not count: one token per 3 bytes of UTF-8, and 8 per message for the template.

    It is an estimate. English prose has some 4 bytes a token, so it is mostly too high, which costs a little of the
    window; rows of digits or signs may have one byte a token, and then only the server's own refusal says so. The
    tokens that it returns are numbers without a meaning.
    """

    keeps_stops = False

    async def template(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> str:
        raise EngineError("this server does not show its template: it has no /apply-template and no /tokenize")

    async def prompt(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool] = ()) -> list[int]:
        read = [*(message.content for message in messages), continue_from]
        read += [f"{call.name} {call.arguments}" for message in messages for call in message.tool_calls]
        read += [f"{tool.name} {tool.description} {tool.parameters}" for tool in tools]
        return list(range(sum(map(_estimated, read)) + TOKENS_PER_MESSAGE * len(read)))

    async def tokens(self, text: str) -> list[int]:
        return list(range(_estimated(text)))

    async def text(self, tokens: Sequence[int]) -> str:
        raise EngineError("this server does not say what its tokens are: it has no /detokenize")


def _estimated(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _tokens_in(answer: dict[str, Any]) -> list[int]:
    tokens = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise EngineError("/tokenize did not answer with tokens")
    return tokens


def _text_in(answer: dict[str, Any], field: str) -> str:
    text = answer.get(field)
    if not isinstance(text, str):
        raise EngineError(f"the server's answer has no {field}")
    return text
