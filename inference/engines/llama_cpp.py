"""The CPU engine: llama.cpp's own server, in a process of its own (`LlamaHost`).

One instance is one model. Knows nothing of queues or clients. What it takes care of, all of it measured: the KV cache
is one pool for all slots (a third of the memory, a tenth of the speed), small batches keep a stop quick while a prompt
is read, stop strings are ours (the server's own lose text that only began like one), and a JSON schema is tried before
it is trusted: one that the server cannot compile it drops without a word, and answers as if nobody had asked for it.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from inference import memory
from inference.engines.base import Ability, Capabilities
from inference.engines.llama_completion import completion, is_json, picked_in
from inference.engines.llama_embedder import LlamaEmbedder
from inference.engines.llama_host import BROKEN, LlamaHost
from inference.engines.llama_process import Order
from inference.engines.plain import plain_text
from inference.engines.prompts import Prompts
from inference.engines.tool_text import ToolText, body_of, knows_tools, opening, without_tags
from inference.pacing import EACH_S
from inference.protocol import (
    BadRequest,
    Chunk,
    ContextTooLong,
    Embeddings,
    EngineDied,
    EngineError,
    Finish,
    Message,
    Picked,
    Request,
    Tool,
    ToolCall,
    Usage,
)
from inference.sse import Events
from inference.stops import StopFilter
from inference.wire import error_event, function_body, words

ABLE: frozenset[Ability] = frozenset(("json_schema", "logprobs", "embeddings"))
TRUSTED: frozenset[Ability] = frozenset(("grammar",))
TOOLS: frozenset[Ability] = frozenset(("tools",))  # Of models whose template teaches them to write calls.
# Tokens of prompt between two looks at what was cancelled, so the bound of a stop while a prompt is read: two batches.
# 128 reads prompts some 5 % faster, and a stop takes 1.6 s instead of 0.9 (p95, 4,000 tokens of SmolLM2, two cores).
BATCH = 96
HOST_CACHE_MIB = 256  # For prompts whose slot was taken by another conversation.
REMEMBERED_SCHEMAS = 64
MOST_EMBEDDED = 16_384  # Tokens in all texts of a request: minutes, on one thread.
SETTLE_S = 10.0
TEMPLATE_S = 5.0
HEADROOM = 2 * 2**30  # Beyond twice what a model should take: for what nobody foresaw, short of taking the machine.


class LlamaCppEngine:
    """`path` is a GGUF file; `context` the window of one request; `kv_tokens` what all slots share; `threads` 0 means
    as many as this machine has to give; `template` is the text of a Jinja template in place of the model's own;
    `prefix` a system prompt that every slot is to have read, and `saved` the directory where that is kept, for the
    other slots and for the next start.

    `trusted`: whoever asks may give a GBNF grammar of their own. llama.cpp follows all ways in which one can match, in
    the loop that serves everybody, so that fifteen characters like `((([a-z]+)+)+)+` stop it for all.
    """

    def __init__(
        self,
        model: str,
        path: Path,
        context: int,
        slots: int,
        kv_tokens: int,
        threads: int = 0,
        *,
        template: str = "",
        prefix: str = "",
        saved: Path | None = None,
        trusted: bool = False,
    ) -> None:
        self._model = model
        self._context = min(context, kv_tokens) if context else kv_tokens
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._prefix = prefix
        self._saved = saved
        self._quantization = ""
        self._vocabulary = 0
        self._abilities = ABLE | TRUSTED if trusted else ABLE
        self.order = Order(
            path=str(path),
            model=model,
            memory=2 * memory.needed(path, kv_tokens) + HEADROOM,
            slots=slots,
            kv_tokens=kv_tokens,
            batch=BATCH,
            threads=threads or spare_cores(),
            cache_mib=HOST_CACHE_MIB,
            template=template,
            saved=str(saved or ""),
        )
        self._host = LlamaHost(self.order)
        self._embedder = LlamaEmbedder(model, path, self.order.memory)
        self._streams = 0
        self._schemas: OrderedDict[str, bool] = OrderedDict()
        self._prompts = Prompts(self._read)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._model,
            "llama_cpp",
            self._context,
            self._slots,
            self._kv_tokens,
            self._quantization,
            self._abilities,
            gathers=True,
        )

    async def load(self) -> None:
        try:
            await self._host.open()
            await self._warm()
        except BaseException:
            await self.unload()
            raise

    async def unload(self) -> None:
        await self._host.close()
        await self._embedder.close()
        self._prompts.clear()

    async def health(self) -> bool:
        if not self._host.is_open:
            return False
        try:
            await asyncio.wait_for(self._host.call("GET", "/health"), 5)
        except (EngineError, TimeoutError):
            return False
        return True

    async def apply_template(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> str:
        plain = without_tags if "tools" in self._abilities else plain_text
        body: dict[str, Any] = {"messages": [body_of(message, plain) for message in messages]}
        if tools:
            written = [
                replace(one, description=plain(one.description), parameters=plain(one.parameters)) for one in tools
            ]
            body["tools"] = [{"type": "function", "function": function_body(tool)} for tool in written]
        try:
            async with asyncio.timeout(TEMPLATE_S):
                prompt = (await self._host.call("POST", "/apply-template", body))["prompt"]
        except TimeoutError:  # It goes on there, on one core: only the end of the process would stop it.
            raise BadRequest(f"with these messages the chat template of {self._model} does not end") from None
        return f"{prompt}{plain_text(continue_from)}"

    async def tokenize(self, text: str) -> list[int]:
        return await self._tokens({"content": text, "add_special": False, "parse_special": False})

    async def detokenize(self, tokens: Sequence[int]) -> str:
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise BadRequest(f"there is no such token: this model's run from 0 to {self._vocabulary - 1}")
        return str((await self._host.call("POST", "/detokenize", {"tokens": list(tokens)}))["content"])

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        return await self._prompts.tokens(messages, continue_from, tools)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        prompt = await self.prompt(request.messages, request.continue_from, request.tools)
        opened = opening(request.tool_choice) if request.tools else ""
        calling = ToolText(request.tool_choice) if request.tools else None
        if opened:
            # The service has left room for the answer behind the prompt, but not for this.
            prompt = prompt + await self._tokens({"content": opened, "add_special": False, "parse_special": True})
            most = min(request.sampling.max_tokens, max(1, self._context - len(prompt)))
            request = replace(request, sampling=replace(request.sampling, max_tokens=most))
        sampling = request.sampling
        if sampling.json_schema or sampling.grammar:
            if request.continue_from:
                raise BadRequest("an answer that is held to a schema or grammar cannot be continued, only asked anew")
            if sampling.json_schema:
                await self._try_schema(sampling.json_schema)
        stops = StopFilter(sampling.stop)
        counted, sent, cached, finish = 0, 0, 0, ""
        picked: list[Picked] = []
        said = ""
        try:
            response = await self._host.send("POST", "/completion", completion(request, prompt))
        except asyncio.CancelledError:  # It answers once it has read the first batch: it may be at work already.
            await self._settled()
            raise
        self._streams += 1
        try:
            events = Events()
            text = ""
            async for data in response.content.iter_any():
                for payload in events.feed(data):
                    event = orjson.loads(payload)
                    if error := error_event(event):
                        raise error
                    counted = event.get("tokens_predicted", counted)
                    if progress := event.get("prompt_progress"):
                        cached = int(progress["cache"])
                    piece = stops.feed(event["content"])
                    text += calling.feed(piece) if calling else piece
                    if sampling.logprobs is not None:
                        picked += picked_in(event, sampling.logprobs)
                    if sampling.json_schema:
                        said += event["content"]
                    if stops.hit or event.get("stop"):
                        finish = "length" if event.get("stop_type") == "limit" and not stops.hit else "stop"
                        break
                if finish:
                    usage = Usage(len(prompt), counted, cached)
                    reason: Finish = "length" if finish == "length" else "stop"
                    if sampling.json_schema and reason == "stop" and not stops.hit and not is_json(said):
                        raise EngineError("llama.cpp has lost the schema in the middle of the answer")
                    piece, calls = stops.end(), tuple[ToolCall, ...]()
                    if calling:
                        piece = calling.feed(piece)
                        rest, calls = calling.end(cut=reason == "length")
                        piece += rest
                        if request.tool_choice == "none":
                            calls = ()
                        reason = "tool_calls" if calls else reason
                    yield Chunk(text + piece, counted - sent, reason, usage, tuple(picked), calls=calls)
                    return
                if text:
                    yield Chunk(text, counted - sent, logprobs=tuple(picked))
                    text, sent, picked = "", counted, []
                    if request.gather_ms and not sampling.stop:
                        await self._gathered(response, request.gather_ms / 1_000)
            raise EngineDied("llama.cpp ended the answer without saying why")
        except BROKEN as error:
            raise EngineDied(f"llama.cpp broke off: {words(error)}") from error
        finally:
            response.close()
            self._streams -= 1
            if not finish:
                await self._settled()

    async def _gathered(self, response: aiohttp.ClientResponse, most: float) -> None:
        """Until there is text enough to be worth looking at, or no more will come.

        What is not looked at token by token costs this process nothing, and the model's threads wait for each other
        whenever one of them has to give way to it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(EACH_S * self._streams, most)):
                await response.content.wait_eof()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        read = [await self._tokens({"content": text, "add_special": True, "parse_special": False}) for text in texts]
        if (longest := max(map(len, read), default=0)) > self._context:
            raise ContextTooLong(f"a text has {longest} tokens; this model's window is {self._context}")
        if (total := sum(map(len, read))) > MOST_EMBEDDED:
            raise BadRequest(f"the texts have {total} tokens together; one request may hold {MOST_EMBEDDED}")
        return await self._embedder.embed(read)

    async def _read(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool]) -> list[int]:
        text = await self.apply_template(messages, continue_from, tools)
        return await self._tokens({"content": text, "add_special": True, "parse_special": True})

    async def _try_schema(self, schema: str) -> None:
        """Raises `BadRequest` if llama.cpp does not hold its answers to the schema.

        It is asked for one token of such an answer and pushed towards one that no JSON begins with. Either outcome is
        remembered: a schema that fails may take a second, in which nobody else is served.
        """
        if schema not in self._schemas:
            wrong = (await self.tokenize(")"))[-1]
            trial = {"prompt": [wrong], "n_predict": 1, "temperature": 0, "cache_prompt": False}
            push = {"logit_bias": [[wrong, 1_000]], "json_schema": orjson.Fragment(schema)}
            said = (await self._host.call("POST", "/completion", trial | push))["content"]
            self._schemas[schema] = said.strip() != ")"
            if len(self._schemas) > REMEMBERED_SCHEMAS:
                self._schemas.popitem(last=False)
        self._schemas.move_to_end(schema)
        if not self._schemas[schema]:
            raise BadRequest("llama.cpp cannot compile this JSON schema: it uses something that is not supported there")

    async def _warm(self) -> None:
        properties = await self._host.call("GET", "/props")
        self._context = min(self._context, int(properties["default_generation_settings"]["n_ctx"]))
        self._quantization = str(properties.get("model_ftype") or "")
        caps = properties.get("chat_template_caps") or {}
        if caps.get("supports_tools") and knows_tools(str(properties.get("chat_template") or "")):
            self._abilities |= TOOLS
        self._vocabulary = int((await self._host.call("GET", "/v1/models"))["data"][0]["meta"]["n_vocab"])
        await self._template_ends()
        warm = {"prompt": "Hello, how are you?", "n_predict": 4, "temperature": 0, "cache_prompt": False}
        await self._host.call("POST", "/completion", warm)
        if self._prefix:
            await self._read_prefix()

    async def _template_ends(self) -> None:
        """Raises `EngineError` for a template that fails, or that goes on for ever: better now than with a person."""
        talk = [Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "How are you?")]
        try:
            await self.apply_template(talk)
        except BadRequest as error:
            raise EngineError(f"the chat template of {self._model} does not work: {error}") from error

    async def _read_prefix(self) -> None:
        """Has every slot read the beginning of all conversations, so that whoever begins one waits only for their own
        words. It is read once, kept in a file, and copied."""
        ones = [await self.prompt([Message("system", self._prefix), Message("user", says)]) for says in ("a", "Z")]
        tokens = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ones, strict=False))]
        name = self._kept_as(tokens)
        for old in self._saved.glob("*.prefix") if self._saved else ():
            if old.name != name:
                old.unlink(missing_ok=True)
        for slot in range(self._slots):
            if self._saved:
                with contextlib.suppress(EngineError):  # It is read anew if it was not kept, or is damaged.
                    await self._host.call("POST", f"/slots/{slot}?action=restore", {"filename": name})
            # Only what a job has read counts as a slot's prompt.
            read = {"prompt": tokens, "n_predict": 0, "id_slot": slot, "cache_prompt": True}
            cached = (await self._host.call("POST", "/completion", read))["timings"]["cache_n"]
            if self._saved and not cached:
                await self._host.call("POST", f"/slots/{slot}?action=save", {"filename": name})

    def _kept_as(self, tokens: Sequence[int]) -> str:
        """A file name that no other model, build of llama.cpp or prefix has."""
        path = Path(self.order.path)
        stat = path.stat()
        what = (path.name, stat.st_size, stat.st_mtime_ns, self._kv_tokens, version("xllamacpp"), *tokens)
        return f"{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}.prefix"

    async def _settled(self) -> None:
        """Until the server has no more slots at work than there are streams: a closed one stops within two batches."""
        with contextlib.suppress(EngineError, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                # The server answers between two decode steps, so this asks no faster than it works.
                while sum(slot["is_processing"] for slot in await self._host.call("GET", "/slots")) > self._streams:
                    await asyncio.sleep(0.005)

    async def _tokens(self, body: dict[str, Any]) -> list[int]:
        tokens: list[int] = (await self._host.call("POST", "/tokenize", body))["tokens"]
        return tokens


def spare_cores() -> int:
    """Threads for the model: all of one or two cores, else all but one, which the rest of the service needs."""
    cores = len(os.sched_getaffinity(0))
    return cores if cores <= 2 else min(cores - 1, 16)
