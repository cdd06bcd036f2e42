"""Which engine serves which model of the catalogue: the one place that knows all engines. Loads nothing itself."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inference import catalog, gguf, memory
from inference.catalog import Model
from inference.engines.base import Engine
from inference.engines.exllama.engine import ExLlamaEngine
from inference.engines.exllama.options import KV_TOKENS, Options
from inference.engines.remote import SLOTS, RemoteEngine
from inference.engines.scripted import ScriptedEngine
from inference.protocol import Damaged, EngineError, ModelNotFound

LLAMA_SLOTS = 8
SCRIPTED_SLOTS = 256


@dataclass(frozen=True, slots=True)
class Registry:
    """`models` is the directory of model files, `stamps` the note on verified ones; `threads` 0 takes what the machine
    has to give; `rate` is the pace of scripted answers; `remote_key` is for remote models without a `key_file`;
    `prefix` is the system prompt that most conversations begin with, `saved` the directory where engines keep what they
    made of it; `trusted`: whoever asks may give llama.cpp a grammar."""

    models: Path
    stamps: Path | None = None
    threads: int = 0
    rate: float = 0.0
    remote_key: str = ""
    prefix: str = ""
    saved: Path | None = None
    trusted: bool = False

    async def engine(self, model: Model, tell: Callable[[float], None] = lambda share: None) -> Engine:
        """The engine for a model, not loaded yet; its file is verified, and `tell` told how far that is.

        Raises `ModelNotFound` if the file has gone, `Damaged` if it is not what it should be.
        """
        if model.engine == "scripted":
            return ScriptedEngine(model.id, model.slots or SCRIPTED_SLOTS, self.rate)
        if model.engine == "remote":
            key = text_in(model.key_file, "the key").strip() if model.key_file else self.remote_key
            return RemoteEngine(model.url, key, model.id, model.context, model.slots or SLOTS)
        if model.engine == "exllama":
            return ExLlamaEngine(model.exllama or Options(model.file, model.id))
        model = self.described(model)
        path = catalog.place(model, self.models)
        if path is None:
            raise ModelNotFound(f"the file of {model.id} has gone: {model.file}")
        # What an engine needs beyond the rest is imported only for it.
        await asyncio.to_thread(catalog.verify, model, path, self.stamps, tell)
        from inference.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(
            model.id,
            path,
            model.context,
            model.slots or LLAMA_SLOTS,
            model.kv_tokens,
            self.threads,
            template=text_in(model.template, "the chat template") if model.template else "",
            prefix=self.prefix,
            saved=self._folder(model),
            trusted=self.trusted,
        )

    def _folder(self, model: Model) -> Path | None:
        if self.saved is None:
            return None
        folder = self.saved / hashlib.sha256(model.id.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def described(self, model: Model) -> Model:
        """The model with the window that it will have here, as far as that is known before it is loaded."""
        path = catalog.place(model, self.models) if model.engine == "llama_cpp" else None
        if path is None:
            return model
        try:
            context = model.context or gguf.header(path).context
        except Damaged:  # Which it will say when somebody wants it.
            context = 0
        kv_tokens = model.kv_tokens or KV_TOKENS
        return replace(model, context=min(context or kv_tokens, kv_tokens), kv_tokens=kv_tokens)

    def needs(self, model: Model) -> int:
        """Bytes of memory that it takes on this machine; 0 if nobody knows, or it takes none."""
        path = catalog.place(model, self.models) if model.engine == "llama_cpp" else None
        return memory.needed(path, self.described(model).kv_tokens) if path else 0


def text_in(file: str | Path, what: str) -> str:
    """The text of the file that is to hold `what`. Raises `EngineError` that says why it cannot be had."""
    try:
        return Path(file).read_text()
    except OSError as error:
        raise EngineError(f"cannot read {what} in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"cannot read {what} in {file}: it is no text") from error
