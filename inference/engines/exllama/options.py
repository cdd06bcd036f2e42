"""What can be chosen about an ExLlama model, and the flags of `python -m inference` that choose it. Loads nothing."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from inference.protocol import BadRequest, EngineError

CacheKind = Literal["fp16", "q8", "q6", "q4"]
GENERATOR = "inference.engines.exllama.v2:ExLlamaV2Generator"
SLOTS = 16
KV_TOKENS = 16_384
CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Options:
    """One model on one or more GPUs.

    `folder`: the model's directory. `model`: the name it answers to, by default the folder's. `context`: tokens of one
    request, 0 for what the model was trained on. `kv_tokens`: tokens that all requests may hold together. `gpu_split`:
    gigabytes of weights on each GPU in turn, empty to fill one after the other. `draft`: directory of a smaller model
    of the same vocabulary that guesses ahead; `ngram`: guess ahead from the text itself. `loras`: directories of
    adapters, all of them on for every request. `chunk`: tokens of a prompt between two looks at what was cancelled, a
    multiple of 256. `template`: a file with a chat template, in place of the model's own. `generator`: what drives the
    GPU, as "module:name" of a `generator.Generator`.
    """

    folder: str
    model: str = ""
    context: int = 0
    slots: int = SLOTS
    kv_tokens: int = KV_TOKENS
    cache: CacheKind = "fp16"
    gpu_split: tuple[float, ...] = ()
    draft: str = ""
    ngram: bool = False
    loras: tuple[str, ...] = ()
    chunk: int = CHUNK
    template: str = ""
    generator: str = GENERATOR

    def __post_init__(self) -> None:
        if self.draft and self.ngram:
            raise BadRequest("a draft model and n-gram drafts exclude each other")
        if self.cache not in get_args(CacheKind):
            raise BadRequest(f"there is no cache kind {self.cache!r}: it is one of {', '.join(get_args(CacheKind))}")
        if self.chunk < 256 or self.chunk % 256:
            raise BadRequest(f"the prompt is read in multiples of 256 tokens, not {self.chunk}")
        if self.slots < 1 or self.kv_tokens < 256 or self.context < 0:
            raise BadRequest("slots, kv_tokens and context must be positive, and kv_tokens at least 256")
        if any(gigabytes <= 0 for gigabytes in self.gpu_split):
            raise BadRequest("each part of the GPU split must be above 0 gigabytes")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that only this engine has. `--model` is the model's directory for it."""
    group = parser.add_argument_group("exllama")
    add = group.add_argument
    add("--cache", choices=get_args(CacheKind), default="fp16", help="kind of KV cache (default: %(default)s)")
    add("--gpu-split", default="", help="gigabytes of weights on each GPU, as 20,24 (default: one GPU after the other)")
    add("--draft", default="", help="directory of a small model of the same vocabulary that guesses ahead")
    add("--ngram", action="store_true", help="guess ahead from the text itself")
    add("--lora", action="append", default=[], help="directory of an adapter; may be given more than once")
    add("--chunk", type=int, default=CHUNK, help="tokens of a prompt that are read at a time (default: %(default)s)")
    add("--template", default="", help="file with a chat template, in place of the model's own")
    add("--generator", default=GENERATOR, help=argparse.SUPPRESS)


def options_in(flags: argparse.Namespace) -> Options:
    """The options that the parsed flags choose. Raises `EngineError` for those that mean nothing."""
    if not flags.model:
        raise EngineError("--engine exllama needs the model's directory: --model")
    folder = Path(flags.model).expanduser().resolve()
    try:
        split = tuple(float(part) for part in flags.gpu_split.split(",") if part.strip())
    except ValueError:
        raise EngineError(f"--gpu-split takes gigabytes, as 20,24, not {flags.gpu_split!r}") from None
    return Options(
        folder=str(folder),
        model=folder.name.lower(),
        context=flags.context,
        slots=flags.slots or SLOTS,
        kv_tokens=flags.kv_tokens or KV_TOKENS,
        cache=flags.cache,
        gpu_split=split,
        draft=flags.draft,
        ngram=flags.ngram,
        loras=tuple(flags.lora),
        chunk=flags.chunk,
        template=flags.template,
        generator=flags.generator,
    )
