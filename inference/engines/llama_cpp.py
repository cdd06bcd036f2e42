"""The CPU engine: llama.cpp's own server, embedded in this process by xllamacpp, spoken to over loopback.

One instance is one model. Knows nothing of queues or clients. What it takes care of, all of it measured: the KV cache
is one pool for all slots (a third of the memory, a tenth of the speed), small batches keep a stop quick while a prompt
is read, every call has a connection of its own (reused ones break under load), and stop strings are ours (the server's
own lose text that only began like one).
"""

import asyncio
import importlib
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from inference.engines.base import Capabilities
from inference.engines.plain import plain_text
from inference.protocol import BadRequest, Chunk, EngineDied, EngineError, Finish, Message, Request, Usage
from inference.sse import Events
from inference.stops import StopFilter
from inference.wire import GONE, error_event, error_from, error_in, words

# A token of 135M parameters passes hundreds of barriers. Threads that spin at them as long as OpenMP likes starve each
# other as soon as anything else wants a core (105 tokens/s fell to 10); with a short spin it costs nothing either way.
SPINS = "200"
# Tokens of prompt between two looks at what was cancelled, so the bound of a stop while a prompt is read: two batches.
# 256 reads prompts some 5 % faster and stops half as fast.
BATCH = 128
HOST_CACHE_MIB = 256  # For prompts whose slot was taken by another conversation.
REMEMBERED_PROMPTS = 16
SETTLE_S = 10.0


class LlamaCppEngine:
    """`path` is a GGUF file; `context` the window of one request; `kv_tokens` what all slots share; `threads` 0 means
    as many as this machine has to give."""

    def __init__(self, model: str, path: Path, context: int, slots: int, kv_tokens: int, threads: int = 0) -> None:
        self._model = model
        self._path = path
        self._context = min(context, kv_tokens) if context else kv_tokens
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._threads = threads or spare_cores()
        self._quantization = ""
        self._vocabulary = 0
        self._server: Any = None
        self._http: aiohttp.ClientSession | None = None
        self._streams = 0
        self._prompts: OrderedDict[tuple[tuple[Message, ...], str], list[int]] = OrderedDict()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._model, "llama_cpp", self._context, self._slots, self._kv_tokens, self._quantization)

    async def load(self) -> None:
        key = secrets.token_hex(16)
        # xllamacpp keeps the interpreter's lock while it loads, so nothing else of this process runs in that time.
        self._server = await asyncio.to_thread(self._open, key)
        self._http = aiohttp.ClientSession(
            self._server.listening_address,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )
        properties = await self._call("GET", "/props")
        self._context = min(self._context, int(properties["default_generation_settings"]["n_ctx"]))
        self._quantization = str(properties.get("model_ftype") or "")
        self._vocabulary = int((await self._call("GET", "/v1/models"))["data"][0]["meta"]["n_vocab"])
        warm = {"prompt": "Hello, how are you?", "n_predict": 4, "temperature": 0, "cache_prompt": False}
        await self._call("POST", "/completion", warm)

    async def unload(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()
        server, self._server = self._server, None
        if server is not None:
            del server  # Its destructor stops the server and waits for its threads.

    async def health(self) -> bool:
        if self._http is None:
            return False
        try:
            await asyncio.wait_for(self._call("GET", "/health"), 5)
        except (EngineError, TimeoutError):
            return False
        return True

    async def apply_template(self, messages: Sequence[Message], continue_from: str = "") -> str:
        plain = [{"role": m.role, "content": plain_text(m.content)} for m in messages]
        prompt = (await self._call("POST", "/apply-template", {"messages": plain}))["prompt"]
        return f"{prompt}{plain_text(continue_from)}"

    async def tokenize(self, text: str) -> list[int]:
        return await self._tokens({"content": text, "add_special": False, "parse_special": False})

    async def detokenize(self, tokens: Sequence[int]) -> str:
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise BadRequest(f"there is no such token: this model's run from 0 to {self._vocabulary - 1}")
        return str((await self._call("POST", "/detokenize", {"tokens": list(tokens)}))["content"])

    async def prompt(self, messages: Sequence[Message], continue_from: str = "") -> list[int]:
        key = (tuple(messages), continue_from)
        if (known := self._prompts.get(key)) is not None:
            self._prompts.move_to_end(key)
            return known
        text = await self.apply_template(messages, continue_from)
        tokens = await self._tokens({"content": text, "add_special": True, "parse_special": True})
        self._prompts[key] = tokens
        if len(self._prompts) > REMEMBERED_PROMPTS:
            self._prompts.popitem(last=False)
        return tokens

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        prompt = await self.prompt(request.messages, request.continue_from)
        stops = StopFilter(request.sampling.stop)
        counted, sent, cached, finish = 0, 0, 0, ""
        response = await self._send("POST", "/completion", _completion(request, prompt))
        self._streams += 1
        try:
            events = Events()
            async for data in response.content.iter_any():
                text = ""
                for payload in events.feed(data):
                    event = orjson.loads(payload)
                    if error := error_event(event):
                        raise error
                    counted = event.get("tokens_predicted", counted)
                    if progress := event.get("prompt_progress"):
                        cached = int(progress["cache"])
                    text += stops.feed(event["content"])
                    if stops.hit or event.get("stop"):
                        finish = "length" if event.get("stop_type") == "limit" and not stops.hit else "stop"
                        break
                if finish:
                    usage = Usage(len(prompt), counted, cached)
                    reason: Finish = "length" if finish == "length" else "stop"
                    yield Chunk(text + stops.end(), counted - sent, reason, usage)
                    return
                if text:
                    yield Chunk(text, counted - sent)
                    sent = counted
            raise EngineDied("llama.cpp ended the answer without saying why")
        except GONE as error:
            raise EngineDied(f"llama.cpp broke off: {words(error)}") from error
        finally:
            response.close()
            self._streams -= 1
            if not finish:
                await self._settled()

    async def _settled(self) -> None:
        """Until the server has no more slots at work than there are streams: a closed one stops within two batches."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            try:
                # The server answers between two decode steps, so this asks no faster than it works.
                busy = sum(slot["is_processing"] for slot in await self._call("GET", "/slots"))
            except EngineError:
                return
            if busy <= self._streams:
                return
            await asyncio.sleep(0.005)

    def _open(self, key: str) -> Any:
        # Read when the library is loaded, so it has to be there before the import.
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        xllamacpp: Any = importlib.import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.model_alias = {self._model}
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [key]
        params.ui = False
        params.verbosity = 1
        params.warmup = False  # `load` does it with a real prompt.
        params.prefill_assistant = False  # `continue_from` says what is to be continued; nothing else is.
        params.n_parallel = self._slots
        params.n_ctx = self._kv_tokens
        params.kv_unified = True
        params.n_batch = params.n_ubatch = BATCH
        params.cache_ram_mib = HOST_CACHE_MIB
        params.n_threads_http = 2 * self._slots + 8
        params.cpuparams.n_threads = self._threads
        params.cpuparams_batch.n_threads = self._threads
        try:
            return xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"llama.cpp cannot load {self._path}: {error}") from error

    async def _tokens(self, body: dict[str, Any]) -> list[int]:
        tokens: list[int] = (await self._call("POST", "/tokenize", body))["tokens"]
        return tokens

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = await self._send(method, path, body)
        try:
            return orjson.loads(await response.read())
        except GONE as error:
            raise EngineDied(f"llama.cpp broke off: {words(error)}") from error

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        if self._http is None:
            raise EngineDied("the model is not loaded")
        try:
            data = orjson.dumps(body) if body is not None else None
            response = await self._http.request(method, path, data=data)
            if response.status == 200:
                return response
            raw = await response.read()
        except GONE as error:
            raise EngineDied(f"llama.cpp does not answer: {words(error)}") from error
        raise error_from(response.status, error_in(raw))


def spare_cores() -> int:
    """Threads for the model: all of one or two cores, else all but one, which the rest of the service needs."""
    cores = len(os.sched_getaffinity(0))
    return cores if cores <= 2 else min(cores - 1, 16)


def _completion(request: Request, prompt: list[int]) -> dict[str, Any]:
    sampling = request.sampling
    body = {
        "prompt": prompt,
        "stream": True,
        "n_predict": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "cache_prompt": True,
        # Progress is written after each batch of the prompt, which is when a closed connection is noticed.
        "return_progress": True,
        "response_fields": ["content", "stop", "stop_type", "tokens_predicted"],
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 0xFFFFFFFF  # 32 bits; all ones would mean a random one.
    return body
