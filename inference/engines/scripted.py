"""An engine without a model: exact text, exact pace, failures on demand. Tokens are words.

Its log probabilities and vectors are made up, always the same and of the right shape. It fits no schema: a made-up
object would prove nothing. For tests and for looking at the product where no model is. It goes through the same
service as every other engine.
"""

import asyncio
import hashlib
import math
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence

from inference.engines.base import Capabilities
from inference.engines.script import PIECES, WORDS, Script, script_in, scripted_text
from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    Embeddings,
    EngineDied,
    EngineError,
    Finish,
    Logprob,
    Message,
    Overloaded,
    Picked,
    Request,
    Tool,
    ToolCall,
    Usage,
)
from inference.stops import StopFilter

__all__ = ["ScriptedEngine", "scripted_text"]

CONTEXT = 32_768
BURST = 64  # Tokens per chunk when there is no pace to keep.
DIMENSIONS = 64
REFUSALS: dict[str, Callable[[], EngineError]] = {
    "overloaded": lambda: Overloaded("the script says: overloaded", 1.0),
    "context": lambda: ContextTooLong("the script says: too long"),
    "bad": lambda: BadRequest("the script says: bad request"),
    "died": lambda: EngineDied("the script says: died"),
}


class ScriptedEngine:
    """`model` is the name it answers to; `rate` the pace of answers that no directive sets."""

    def __init__(
        self,
        model: str = "scripted",
        slots: int = 256,
        rate: float = 0.0,
        context: int = CONTEXT,
        die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    ) -> None:
        self._capabilities = Capabilities(
            model, "scripted", context, slots, abilities=frozenset(("logprobs", "embeddings", "tools"))
        )
        self._rate = rate
        self._die = die
        self._loaded = False
        self._vocabulary: dict[str, int] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def load(self) -> None:
        self._loaded = True

    async def unload(self) -> None:
        self._loaded = False

    async def health(self) -> bool:
        return self._loaded

    async def apply_template(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> str:
        lines = [f"tool: {tool.name} {tool.description} {tool.parameters}" for tool in tools]
        for message in messages:
            lines.append(f"{message.role}: {message.content}")
            lines += [f"call: {call.name} {call.arguments}" for call in message.tool_calls]
        return "\n".join([*lines, f"assistant: {continue_from}" if continue_from else "assistant:"])

    async def tokenize(self, text: str) -> list[int]:
        return [self._vocabulary.setdefault(piece, len(self._vocabulary)) for piece in PIECES.findall(text)]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        pieces = list(self._vocabulary)
        if not all(0 <= token < len(pieces) for token in tokens):
            raise BadRequest("there is no such token")
        return "".join(pieces[token] for token in tokens)

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        # Numbers are enough: nothing reads them, and a vocabulary of everything ever asked would grow for ever.
        return list(range(len(PIECES.findall(await self.apply_template(messages, continue_from, tools)))))

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        script = script_in(request.messages, self._rate)
        if script.refuse:
            raise REFUSALS.get(script.refuse, REFUSALS["bad"])()
        already_sent, rest = script.behind(request.continue_from)
        pieces = rest[: request.sampling.max_tokens]
        finish: Finish = "stop" if len(pieces) == len(rest) else "length"
        prompt_tokens = len(await self.prompt(request.messages, request.continue_from, request.tools))
        stops = StopFilter(request.sampling.stop)
        told_of = request.sampling.logprobs
        await asyncio.sleep(script.prefill_s)
        clock = asyncio.get_running_loop().time
        began, sent, text, new = clock(), 0, "", 0
        picked: list[Picked] = []
        while sent < len(pieces) and not stops.hit:
            if new:
                yield Chunk(text, new, logprobs=tuple(picked))
                text, new, picked = "", 0, []
            if sent or not request.continue_from:
                await self._trouble(script, already_sent + sent)
            await asyncio.sleep(began + sent / script.rate - clock() if script.rate else 0.0)
            due = int((clock() - began) * script.rate) + 1 if script.rate else sent + BURST
            due = min(max(due, sent + 1), _until_trouble(script, already_sent + sent) - already_sent, len(pieces))
            while sent < due and not stops.hit:
                text += stops.feed(pieces[sent])
                if told_of is not None:
                    picked.append(_picked(pieces[sent], told_of))
                sent, new = sent + 1, new + 1
        if stops.hit:
            finish = "stop"
        calls: tuple[ToolCall, ...] = ()
        if script.calls and finish == "stop" and not stops.hit and request.tool_choice != "none":
            if new:
                yield Chunk(text + stops.end(), new, logprobs=tuple(picked))
                text, new, picked = "", 0, []
            if sent or not request.continue_from:
                await self._trouble(script, already_sent + sent)
            size = sum(len(PIECES.findall(f"{name} {arguments}")) for name, arguments in script.called)
            if sent + size > request.sampling.max_tokens:
                finish, size = "length", max(0, request.sampling.max_tokens - sent)
            else:
                finish = "tool_calls"
                calls = tuple(ToolCall(f"call_{uuid.uuid4().hex}", *call) for call in script.called)
            sent, new = sent + size, size
        usage = Usage(prompt_tokens, sent)
        yield Chunk(text + stops.end(), new, finish, usage, tuple(picked), calls=calls)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings(tuple(map(_vector, texts)), sum(len(PIECES.findall(text)) for text in texts))

    async def _trouble(self, script: Script, at: int) -> None:
        if at == script.die_at:
            self._die()
        if at == script.drop_at:
            raise EngineDied("the script says: drop")
        if at == script.stall_at:
            await asyncio.Event().wait()


def _picked(piece: str, alternatives: int) -> Picked:
    """The piece with half of the probability, and each of the words behind it with half of what is left."""
    others = [word for word in WORDS if word != piece]
    ranked = [
        Logprob(token, -math.log(2) * rank, token.encode())
        for rank, token in enumerate((piece, *others[: max(0, alternatives - 1)]), 1)
    ]
    return Picked(ranked[0], tuple(ranked[:alternatives]))


def _vector(text: str) -> tuple[float, ...]:
    """A vector of length 1 that depends on every character of the text."""
    digest = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(DIMENSIONS)
    centred = [byte - 127.5 for byte in digest]
    length = math.sqrt(sum(value * value for value in centred))
    return tuple(value / length for value in centred)


def _until_trouble(script: Script, at: int) -> int:
    """The next position after `at` at which something goes wrong; far away if nothing does."""
    places = (script.die_at, script.drop_at, script.stall_at)
    return min((place for place in places if place is not None and place > at), default=sys.maxsize)
