"""ExLlamaV2's dynamic generator behind `generator.Generator`. Only the files that begin with v2 know its names.

It takes the blocking generator, not its asyncio wrapper: that one ends for good with the first error, does not wake who
waits for a cancelled job, and hides every parameter behind `*args`. What the package needs is imported when it is made,
and each thing that it lacks is named in plain words.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.engines.base import Ability
from inference.engines.exllama.generator import Job, Loaded, Step
from inference.engines.exllama.options import CacheKind, Options
from inference.engines.exllama.settings import sampler_settings
from inference.engines.exllama.v2_schema import Schemas
from inference.engines.exllama.v2_vocabulary import Vocabulary
from inference.protocol import BadRequest, EngineError, Finish, Picked

PAGE = 256  # Tokens of one page of its cache, which is the unit of what jobs hold and what is found again.
DRAFTED = 4  # Tokens that are guessed ahead.
CACHES: dict[CacheKind, str] = {
    "fp16": "ExLlamaV2Cache",
    "q8": "ExLlamaV2Cache_Q8",
    "q6": "ExLlamaV2Cache_Q6",
    "q4": "ExLlamaV2Cache_Q4",
}
NEEDS = "the exllama engine needs an NVIDIA GPU and `pip install parley[gpu]`"


@dataclass(frozen=True, slots=True)
class _Running:
    """A job that is not over. `top`: how many alternatives it reports for each token; None for no log probabilities."""

    job: Any
    top: int | None


def packages() -> Any:
    """The package exllamav2. Raises `EngineError` that says what is missing: a package, a GPU, a compiler."""
    for name in ("torch", "tokenizers", "exllamav2"):
        if importlib.util.find_spec(name) is None:
            raise EngineError(f"{NEEDS}: the package {name} is not installed")
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise EngineError(f"{NEEDS}: torch {torch.__version__} finds no GPU")
    try:
        return importlib.import_module("exllamav2")
    except Exception as error:  # It compiles itself when it is imported, which fails in many ways.
        raise EngineError(f"{NEEDS}: exllamav2 cannot be imported or compiled: {error}") from error


class ExLlamaV2Generator:
    """Loads the model that the options name, on the GPUs that they name. Raises `EngineError`."""

    def __init__(self, options: Options) -> None:
        self._exl2 = packages()
        self._generators: Any = importlib.import_module("exllamav2.generator")
        self._torch: Any = importlib.import_module("torch")
        self._options = options
        self._paged = bool(importlib.import_module("exllamav2.attn").has_flash_attn_with_paged)
        self._slots = options.slots if self._paged else 1
        self._drafted = DRAFTED if options.draft or options.ngram else 0
        self._running: dict[int, _Running] = {}
        try:
            self._read()
            self._load()
            self._generator = self._made()
            self._generator.warmup()
        except Exception as error:  # The package raises whatever it comes across.
            raise EngineError(f"ExLlamaV2 cannot load {options.folder}: {type(error).__name__}: {error}") from error

    @property
    def loaded(self) -> Loaded:
        """What was loaded; without flash-attn there is no paging, so one job at a time."""
        json_schema: tuple[Ability, ...] = ("json_schema",) if self._schemas else ()
        notes = () if self._paged else ("flash-attn 2.5.7 or later is not there, so it does one request at a time",)
        # Guesses are written behind an answer's end, so the last places of the window stay free for them.
        context = min(int(self._config.max_seq_len), self._options.kv_tokens) - self._drafted
        return Loaded(
            context=context,
            slots=self._slots,
            kv_tokens=self._options.kv_tokens,
            vocabulary=self._vocabulary.size,
            control=self._vocabulary.control,
            abilities=("logprobs", *json_schema),
            notes=notes,
        )

    def encode(self, text: str, control: bool) -> list[int]:
        return self._vocabulary.encode(text, control)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.decode(tokens)

    def start(self, job: Job) -> None:
        made = self._generators.ExLlamaV2DynamicJob(**self._job_arguments(job))
        self._generator.enqueue(made)
        self._running[job.number] = _Running(made, job.sampling.logprobs)

    def cancel(self, number: int) -> None:
        if (running := self._running.pop(number, None)) is not None:
            self._generator.cancel(running.job)

    def iterate(self) -> list[Step]:
        steps = []
        for result in self._generator.iterate():
            number = result["identifier"]
            if result["stage"] == "streaming" and (running := self._running.get(number)) is not None:
                steps.append(self._step(number, running, result))
                if result["eos"]:
                    del self._running[number]
        return steps

    def rebuild(self) -> None:
        self._running.clear()
        for pool in (self._generator.sampling_pool, self._generator.filter_pool):
            pool.shutdown(wait=False)
        self._generator = self._made()
        self._generator.warmup()  # After an error on the GPU everything else fails too: then this process must end.

    def _step(self, number: int, running: _Running, result: dict[str, Any]) -> Step:
        text = str(result.get("text", ""))
        finish: Finish | None = None
        if result["eos"]:
            finish = "length" if result["eos_reason"] == "max_new_tokens" else "stop"
            text = text.rstrip("\ufffd")  # A character that the limit cut in two.
        picked: list[Picked] = []
        # A token that ends the answer is not among them, nor is part of a character that was not finished.
        if running.top is not None and "token_ids" in result:
            picked = self._vocabulary.picked(result["token_ids"][0], result["logits"][0], running.top)
        cached = running.job.cached_pages * self._generator.page_size + running.job.cached_tokens
        return Step(number, text, cached=cached, finish=finish, picked=picked)

    def _read(self) -> None:
        """What needs no GPU: the model's configuration and its tokens."""
        self._config = self._config_of(self._options.folder, self._options.context)
        self._draft_config = self._config_of(self._options.draft, 0) if self._options.draft else None
        if self._draft_config is not None:  # Both read the same places, so the smaller window is the window.
            window = min(self._config.max_seq_len, self._draft_config.max_seq_len)
            self._config.max_seq_len = self._draft_config.max_seq_len = window
        self._tokenizer = self._exl2.ExLlamaV2Tokenizer(self._config)
        self._vocabulary = Vocabulary(self._tokenizer, Path(self._options.folder))
        self._schemas = Schemas(self._tokenizer, self._vocabulary) if Schemas.installed() else None

    def _load(self) -> None:
        """The weights, the draft's first: the larger model then takes what is left of each GPU."""
        tokens = self._options.kv_tokens + self._slots * (PAGE + self._drafted)  # Jobs do not share their last pages.
        tokens += -tokens % PAGE
        self._draft: Any = None
        self._draft_cache: Any = None
        if self._draft_config is not None:
            self._draft = self._exl2.ExLlamaV2(self._draft_config)
            self._draft_cache = self._cache(self._draft, tokens, lazy=True)
            self._draft.load_autosplit(self._draft_cache)
        self._model = self._exl2.ExLlamaV2(self._config)
        if self._options.gpu_split:
            self._model.load(gpu_split=list(self._options.gpu_split))
            self._kv = self._cache(self._model, tokens, lazy=False)
        else:
            self._kv = self._cache(self._model, tokens, lazy=True)
            self._model.load_autosplit(self._kv)
        self._loras = [self._exl2.ExLlamaV2Lora.from_directory(self._model, lora) for lora in self._options.loras]

    def _config_of(self, folder: str, context: int) -> Any:
        config = self._exl2.ExLlamaV2Config(folder)
        config.arch_compat_overrides()
        config.max_seq_len = min(config.max_seq_len, context or config.max_seq_len)
        return config

    def _cache(self, model: Any, tokens: int, lazy: bool) -> Any:
        return getattr(self._exl2, CACHES[self._options.cache])(model, max_seq_len=tokens, lazy=lazy)

    def _made(self) -> Any:
        generator = self._generators.ExLlamaV2DynamicGenerator(
            model=self._model,
            cache=self._kv,
            tokenizer=self._tokenizer,
            max_batch_size=self._slots,
            max_chunk_size=min(self._options.chunk, self._config.max_input_len // PAGE * PAGE),
            draft_model=self._draft,
            draft_cache=self._draft_cache,
            num_draft_tokens=DRAFTED,
            use_ngram_draft=self._options.ngram,
            paged=self._paged,
        )
        if self._loras:
            generator.set_loras(self._loras)
        return generator

    def _job_arguments(self, job: Job) -> dict[str, Any]:
        sampling = job.sampling
        if not job.prompt:
            raise BadRequest("the prompt has no tokens")
        schema = sampling.json_schema
        return {
            "identifier": job.number,
            "input_ids": self._torch.tensor([job.prompt], dtype=self._torch.long),
            # The generator ends a job as many tokens early as it guesses ahead.
            "max_new_tokens": sampling.max_tokens + self._drafted,
            "gen_settings": self._generators.ExLlamaV2Sampler.Settings(**sampler_settings(sampling)),
            "seed": sampling.seed,
            "stop_conditions": self._vocabulary.ends,
            # The probabilities it tells are those after sampling, all 1 for a greedy answer: ours come from the logits.
            "return_logits": sampling.logprobs is not None,
            "filters": [self._schemas.filter(schema, job.written)] if schema and self._schemas else [],
        }
