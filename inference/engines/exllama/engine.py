"""The engine for models on NVIDIA GPUs, as the service sees it. Knows frames and children, nothing of torch.

What it takes care of: the generator blocks whoever iterates it, so it has a process of its own (`host`); an iteration
that fails loses all jobs, so their streams end with `EngineDied` and the engine is unhealthy until the generator is
rebuilt; a process that dies is started anew; a waiting reader is woken by whatever ends its answer.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

from inference.engines.base import Capabilities
from inference.engines.exllama.child import Child
from inference.engines.exllama.folder import check_lora, weights_in
from inference.engines.exllama.frames import Frame, error_from
from inference.engines.exllama.generator import Job
from inference.engines.exllama.options import Options
from inference.engines.exllama.pending import Pending
from inference.engines.exllama.template import Template, source
from inference.engines.plain import plain_text
from inference.engines.prompts import Prompts
from inference.protocol import BadRequest, Chunk, Embeddings, EngineDied, EngineError, Message, Request, Tool

HEALTH_S = 5.0
SETTLE_S = 10.0
PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # Before the first, second, ... start in a row.

State = Literal["unloaded", "loading", "ready", "broken"]

logger = logging.getLogger(__name__)


class ExLlamaEngine:
    """One model, chosen and set up by `options`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._folder = Path(options.folder)
        self._capabilities = Capabilities(
            options.model or self._folder.name.lower(), "exllama", options.context, 0, healed=0
        )
        self._vocabulary = 0
        self._control: re.Pattern[str] | None = None
        self._template: Template | None = None
        self._host: Child | None = None
        self._state: State = "unloaded"
        self._fell = False  # Since it was last ready.
        self._loaded: asyncio.Future[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, Pending] = {}
        self._prompts = Prompts(self._read)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def pid(self) -> int:
        """The process that holds the GPU; 0 while there is none."""
        return self._host.pid if self._host else 0

    async def load(self) -> None:
        quantization = weights_in(self._folder)
        if self._options.draft:
            weights_in(Path(self._options.draft))
        for lora in self._options.loras:
            check_lora(Path(lora))
        self._capabilities = dataclasses.replace(self._capabilities, quantization=quantization)
        self._template = Template(*source(self._folder, self._options.template))
        try:
            await self._template.start()
            await self._start()
        except BaseException:
            await self.unload()
            raise

    async def unload(self) -> None:
        self._state = "unloaded"
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait({self._restarting})
            self._restarting = None
        host, self._host = self._host, None
        template, self._template = self._template, None
        if host is not None:
            await host.close()
        self._lost(EngineDied("the model was unloaded"))
        if template is not None:
            await template.close()
        self._prompts.clear()

    async def health(self) -> bool:
        """Whether the generator is whole and its thread comes round between two iterations."""
        if self._state != "ready" or self._host is None:
            return False
        try:
            async with asyncio.timeout(HEALTH_S):
                return bool(await self._host.ask({"alive": True}))
        except (EngineError, TimeoutError):
            return False

    async def apply_template(self, messages: Sequence[Message], continue_from: str = "") -> str:
        if self._template is None:
            raise EngineDied("the model is not loaded")
        plain = [Message(message.role, self._plain(message.content)) for message in messages]
        return f"{await self._template.render(plain)}{self._plain(continue_from)}"

    async def tokenize(self, text: str) -> list[int]:
        return await self._encoded(text, control=False)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        host = self._there()
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise BadRequest(f"there is no such token: this model's run from 0 to {self._vocabulary - 1}")
        return str(await host.ask({"decode": list(tokens)}))

    async def prompt(
        self, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> list[int]:
        return await self._prompts.tokens(messages, continue_from)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """As the protocol says. What a slow reader has not taken yet comes as one chunk."""
        able = self._capabilities.abilities
        for ability, asked in (("json_schema", request.sampling.json_schema), ("grammar", request.sampling.grammar)):
            if asked and ability not in able:
                raise BadRequest(_unable(ability))
        prompt = await self.prompt(request.messages, request.continue_from)
        host, number = self._there(), next(self._numbers)
        answer = self._answers[number] = Pending(len(prompt))
        try:
            job = Job(number, tuple(prompt), request.sampling, request.continue_from)
            host.send({"start": dataclasses.asdict(job)})
            while True:
                chunk = await answer.take()
                yield chunk
                if chunk.finish:
                    return
        finally:
            try:
                if not answer.over:
                    await self._cancelled(host, number, answer)
            finally:  # Who is cancelled may be so twice.
                del self._answers[number]

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        raise BadRequest("the exllama engine makes no embeddings")

    async def _cancelled(self, host: Child, number: int, answer: Pending) -> None:
        """Until its slot is free: the host has said so, or is gone."""
        with contextlib.suppress(EngineDied, TimeoutError):
            host.send({"cancel": number})
            async with asyncio.timeout(SETTLE_S):
                await answer.ended()

    async def _read(self, messages: Sequence[Message], continue_from: str, tools: Sequence[Tool]) -> list[int]:
        return await self._encoded(await self.apply_template(messages, continue_from), control=True)

    async def _encoded(self, text: str, control: bool) -> list[int]:
        tokens: list[int] = await self._there().ask({"encode": text, "control": control})
        return tokens

    def _plain(self, text: str) -> str:
        """The text without anything that the tokenizer would take for a control token."""
        text = plain_text(text)
        return self._control.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text) if self._control else text

    def _there(self) -> Child:
        if self._host is None or self._state != "ready":
            raise EngineDied("the model is not loaded" if self._state == "unloaded" else "the model is being restarted")
        return self._host

    async def _start(self) -> None:
        """Start the host and wait until it is ready. Raises what it could not do."""
        self._state = "loading"
        self._loaded = asyncio.get_running_loop().create_future()
        self._host = Child("inference.engines.exllama.host", (), self._heard, self._ended)
        await self._host.start()
        self._host.send({"options": dataclasses.asdict(self._options)})
        await self._loaded

    def _heard(self, frame: Frame) -> None:
        if "chunks" in frame:
            for number, *event in frame["chunks"]:
                if (answer := self._answers.get(number)) is not None:
                    answer.add(*event)
        elif "gone" in frame:
            if (answer := self._answers.get(frame["gone"])) is not None:
                answer.end(EngineError("the answer was cancelled"))
        elif "failed" in frame:
            number, code, message = frame["failed"]
            if (answer := self._answers.get(number)) is not None:
                answer.end(error_from((code, message)))
        elif "broken" in frame:
            logger.error("an iteration of the generator failed: %s", frame["broken"])
            self._state, self._fell = "broken", True
            self._lost(EngineDied(f"the generator failed: {frame['broken']}"))
            self._take_back()
        elif "ready" in frame:
            self._ready(frame["ready"])
        elif "fatal" in frame:
            self._settle(error_from(frame["fatal"]))

    def _ready(self, loaded: Frame) -> None:
        self._capabilities = dataclasses.replace(
            self._capabilities,
            context=loaded["context"],
            slots=loaded["slots"],
            kv_tokens=loaded["kv_tokens"],
            abilities=frozenset(loaded["abilities"]),
            healed=(self._capabilities.healed or 0) + self._fell,
        )
        self._fell = False
        self._vocabulary = loaded["vocabulary"]
        # The longest first: one may begin like another.
        control = sorted((re.escape(piece) for piece in loaded["control"] if len(piece) > 1), key=len, reverse=True)
        self._control = re.compile("|".join(control)) if control else None
        if self._state == "loading":
            for note in loaded["notes"]:
                logger.warning("%s: %s", self._capabilities.model, note)
        self._state = "ready"
        self._settle(None)

    def _settle(self, error: EngineError | None) -> None:
        if self._loaded is not None and not self._loaded.done():
            if error is None:
                self._loaded.set_result(None)
            else:
                self._loaded.set_exception(error)

    def _ended(self, why: str) -> None:
        """The host is gone without being told to."""
        was, self._state, self._fell = self._state, "broken", True
        logger.error("the process that holds the GPU %s", why)
        self._lost(EngineDied(f"the process that holds the GPU {why}"))
        if was == "loading":
            self._settle(EngineDied(f"the process that holds the GPU {why} while it loaded the model"))
        elif self._restarting is None or self._restarting.done():
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            await asyncio.sleep(pause)
            try:
                await self._start()
            except EngineError as error:
                logger.error("the model could not be loaded again: %s", error)
                if self._host is not None:
                    await self._host.close()
                self._state = "broken"
            if self._state == "ready":
                return

    def _lost(self, error: EngineDied) -> None:
        for answer in self._answers.values():
            answer.end(error)

    def _take_back(self) -> None:
        """Whatever the host may just have been told to start, nobody waits for any more."""
        if self._host is not None:
            with contextlib.suppress(EngineDied):
                for number in self._answers:
                    self._host.send({"cancel": number})


def _unable(ability: str) -> str:
    if ability == "json_schema":
        return "this engine needs the package lm-format-enforcer for JSON schemas, and it is not installed"
    return "the exllama engine takes no GBNF grammars; it takes JSON schemas"
