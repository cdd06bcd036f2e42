"""A model's chat template, rendered in a process of its own, `python -m inference.engines.exllama.template DESCRIPTOR`.

A template is a program that came with the weights. In jinja's sandbox it reaches nothing, but it may still loop or grow
without end, and nothing inside a thread stops that: so it runs where memory is bounded, and `Template` ends the process
that takes too long. `source` finds the template; knows no tokens.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.engines.exllama.child import Child
from inference.engines.exllama.folder import read_json
from inference.engines.exllama.frames import error_frame
from inference.engines.exllama.link import Link
from inference.protocol import BadRequest, EngineDied, EngineError, Message

RENDER_S = 2.0
START_S = 30.0
MEMORY = 512 * 2**20
LONGEST = 32 * 2**20  # Characters of a rendered prompt.


def source(folder: Path, file: str = "") -> tuple[str, dict[str, str]]:
    """The template, and the texts of the tokens that it may name (`bos_token`, `eos_token`, ...).

    It is in `file`, or else in the model's chat_template.jinja, chat_template.json or tokenizer_config.json. Raises
    `EngineError` if there is none.
    """
    config = read_json(folder / "tokenizer_config.json")
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    tokens = {name: _text(config[name]) for name in names if config.get(name)}
    if file:
        return _read(Path(file)), tokens
    if (own := folder / "chat_template.jinja").is_file():
        return _read(own), tokens
    for found in (read_json(folder / "chat_template.json").get("chat_template"), config.get("chat_template")):
        if isinstance(found, list):  # Several, by name.
            found = next((one["template"] for one in found if one.get("name") == "default"), None)
        if isinstance(found, str) and found.strip():
            return found, tokens
    raise EngineError(f"the model in {folder} has no chat template; give one with --template")


class Template:
    """A chat template, ready to be applied. `tokens` are the texts of the tokens that it may name."""

    def __init__(self, text: str, tokens: dict[str, str], limit_s: float = RENDER_S) -> None:
        self._text = text
        self._tokens = tokens
        self._limit_s = limit_s
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Raises `EngineError` for a template that is no template."""
        self._child = child = Child("inference.engines.exllama.template")
        await child.start()
        try:
            async with asyncio.timeout(START_S):
                await child.ask({"template": self._text, "tokens": self._tokens})
        except TimeoutError:
            await self._end()
            raise EngineError("the process for the model's chat template did not start in time") from None

    async def render(self, messages: Sequence[Message]) -> str:
        """The prompt up to the beginning of the answer. Raises `BadRequest` where the template refuses these messages
        or does not come to an end with them."""
        async with self._turn:  # One at a time, so that whoever takes too long takes nobody along.
            if self._closed:
                raise EngineDied("the model is not loaded")
            if self._child is None or not self._child.alive:
                await self.start()
            assert self._child is not None
            said = [{"role": message.role, "content": message.content} for message in messages]
            try:
                async with asyncio.timeout(self._limit_s):
                    return str(await self._child.ask({"messages": said}))
            except TimeoutError:
                await self._end()
                seconds = f"{self._limit_s:g} seconds"
                raise BadRequest(f"the model's chat template did not come to an end within {seconds}") from None
            except EngineDied as error:
                await self._end()
                raise BadRequest(f"the model's chat template took too much memory: {error}") from error

    async def close(self) -> None:
        """For good: whoever still waits to have something rendered gets an error."""
        self._closed = True
        async with self._turn:
            await self._end()

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            await child.close()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    link = Link(int(sys.argv[-1]))
    template: Any = None
    tokens: dict[str, str] = {}
    for frame in link.frames():
        try:
            if "template" in frame:
                template, tokens = _compiled(frame["template"]), frame["tokens"]
                link.send({"id": frame["id"], "answer": True})
            else:
                link.send({"id": frame["id"], "answer": _rendered(template, frame["messages"], tokens)})
        except MemoryError:
            link.send({"id": frame["id"], "error": (BadRequest.code, "the model's chat template took too much memory")})
        except EngineError as error:
            link.send({"id": frame["id"], "error": error_frame(error)})


def _compiled(text: str) -> Any:
    try:
        import jinja2
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise EngineError(f"chat templates need jinja2, which `pip install parley[gpu]` brings: {error}") from error

    # Blocks leave no blank lines behind, and `tojson` leaves text as it is: templates are written for both.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(text)
    except jinja2.TemplateError as error:
        raise EngineError(f"the model's chat template is damaged: {error}") from error


def _rendered(template: Any, messages: list[dict[str, str]], tokens: dict[str, str]) -> str:
    try:
        text = str(template.render(messages=messages, add_generation_prompt=True, tools=None, **tokens))
    except (EngineError, MemoryError):
        raise
    except Exception as error:  # A template may fail in any way that a program may.
        raise BadRequest(f"the model's chat template failed: {type(error).__name__}: {error}") from error
    if len(text) > LONGEST:
        raise BadRequest(f"the model's chat template made a prompt of {len(text)} characters")
    return text


def _refuse(message: object) -> None:
    raise BadRequest(f"the model's chat template refuses these messages: {message}")


def _now(pattern: str) -> str:
    from datetime import datetime

    return datetime.now().astimezone().strftime(pattern)


def _text(token: object) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{file} cannot be read: {error}") from error


if __name__ == "__main__":
    main()
