"""A model's directory: what must be in it, and what its weights are. Reads two small files; loads nothing."""

import json
from pathlib import Path
from typing import Any

from inference.protocol import EngineError, ModelNotFound

METHODS = ("exl2", "gptq")


def weights_in(folder: Path) -> str:
    """The kind of weights, as "EXL2 4.25", "GPTQ 4" or "FP16".

    Raises `ModelNotFound` if there is no such directory, `EngineError` if a file is missing or ExLlamaV2 cannot read
    what it holds.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"there is no model directory {folder}")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise EngineError(f"{folder} is no model: it has no {name}")
    if not any(folder.glob("*.safetensors")):
        raise EngineError(f"{folder} has no weights: no .safetensors file is there")
    quantized = read_json(folder / "config.json").get("quantization_config") or {}
    method, bits = str(quantized.get("quant_method", "")).lower(), quantized.get("bits")
    if not method:
        return "FP16"
    if method not in METHODS:
        raise EngineError(f"the weights in {folder} are {method.upper()}; ExLlamaV2 reads EXL2, GPTQ and FP16")
    return f"{method.upper()} {bits:g}" if isinstance(bits, int | float) else method.upper()


def ends_in(folder: Path) -> tuple[int, ...]:
    """The tokens that end an answer, as config.json and generation_config.json say: none, one or several each."""
    ends: list[int] = []
    for name in ("config.json", "generation_config.json"):
        said = read_json(folder / name).get("eos_token_id")
        ends += said if isinstance(said, list) else [] if said is None else [said]
    return tuple(sorted(set(ends)))


def check_lora(folder: Path) -> None:
    """Raises `EngineError` unless it is an adapter in safetensors: the other format is a pickle, which runs code."""
    if (folder / "adapter_model.bin").exists():
        raise EngineError(f"the adapter in {folder} is a pickle (adapter_model.bin); convert it to safetensors")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise EngineError(f"{folder} is no LoRA adapter: it has no {name}")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file, empty if there is none. Raises `EngineError`."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise EngineError(f"{file} is damaged: it holds no object")
    return found
