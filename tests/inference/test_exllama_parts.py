"""What of the exllama engine needs no process: options and flags, model directories, settings, frames."""

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from inference.engines.exllama.engine import ExLlamaEngine
from inference.engines.exllama.folder import check_lora, ends_in, weights_in
from inference.engines.exllama.frames import error_frame, error_from, job_from, options_from, picked_frame, picked_from
from inference.engines.exllama.generator import Job
from inference.engines.exllama.options import Options, add_flags, options_in
from inference.engines.exllama.pending import Pending
from inference.engines.exllama.settings import sampler_settings
from inference.engines.exllama.v2_schema import without_text
from inference.engines.exllama.v2_vocabulary import bytes_of
from inference.protocol import (
    BadRequest,
    ContextTooLong,
    EngineDied,
    EngineError,
    Logprob,
    ModelNotFound,
    Picked,
    Sampling,
)
from tests.inference.exllama_double import model_folder


def flags(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--context", "--slots", "--kv-tokens"):
        parser.add_argument(name, type=int, default=4096 if name == "--kv-tokens" else 0)
    parser.add_argument("--model", default="")
    add_flags(parser)
    return parser.parse_args(given)


def sent(thing: Any) -> Any:
    """What arrives of it at the other end of the wire."""
    return orjson.loads(orjson.dumps(dataclasses.asdict(thing)))


def test_flags_become_options(tmp_path: Path) -> None:
    given = ("--model", str(tmp_path / "My-Model"), "--gpu-split", "20,24.5", "--cache", "q4", "--lora", "a")
    options = options_in(flags(*given, "--lora", "b", "--draft", "small", "--slots", "4"))
    assert (options.folder, options.model) == (str(tmp_path / "My-Model"), "my-model")
    assert (options.gpu_split, options.cache, options.loras) == ((20.0, 24.5), "q4", ("a", "b"))
    assert (options.draft, options.slots, options.kv_tokens) == ("small", 4, 4096)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "needs the model's directory"),
        (("--model", "m", "--gpu-split", "much"), "gigabytes"),
        (("--model", "m", "--gpu-split", "0,4"), "above 0"),
        (("--model", "m", "--draft", "d", "--ngram"), "exclude each other"),
        (("--model", "m", "--chunk", "300"), "multiples of 256"),
    ],
)
def test_flags_that_mean_nothing_are_reported(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        options_in(flags(*given))


def test_what_goes_over_the_wire_arrives_as_it_was() -> None:
    options = Options("folder", gpu_split=(1.5, 2.0), loras=("a",), cache="q6")
    assert options_from(sent(options)) == options
    job = Job(7, (1, 2, 3), Sampling(4, seed=9, stop=("a", "b"), logprobs=2, json_schema="{}"), "so far")
    assert job_from(sent(job)) == job
    chosen = Logprob("é", -0.5, "é".encode())
    picked = Picked(chosen, (chosen, Logprob("\ufffd", -1.0, b"\xf0\x9f")))
    assert picked_from(orjson.loads(orjson.dumps(picked_frame(picked)))) == picked
    for error in (BadRequest("a"), ContextTooLong("b"), EngineDied("c"), EngineError("d")):
        again = error_from(error_frame(error))
        assert (type(again), str(again)) == (type(error), str(error))
    assert isinstance(error_from(error_frame(AssertionError())), EngineDied)


def test_weights_are_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    assert weights_in(folder) == "FP16"
    for quantization, name in (
        ({"quant_method": "exl2", "bits": 4.25}, "EXL2 4.25"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ 4"),
        ({"quant_method": "exl2"}, "EXL2"),
    ):
        (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
        assert weights_in(folder) == name


def test_a_directory_that_is_no_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model directory"):
        weights_in(tmp_path / "nowhere")
    for missing in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = model_folder(tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(EngineError, match=missing.removeprefix("model")):
            weights_in(folder)
    folder = model_folder(tmp_path / "damaged")
    for text, words in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"quantization_config": {"quant_method": "awq"}}', "AWQ"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(EngineError, match=words):
            weights_in(folder)


def test_all_ends_of_an_answer_are_found(tmp_path: Path) -> None:
    assert ends_in(tmp_path) == ()
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert ends_in(tmp_path) == (2, 7)


def test_an_adapter_is_never_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no LoRA adapter"):
        check_lora(tmp_path)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).touch()
    check_lora(tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(EngineError, match="pickle"):
        check_lora(tmp_path)


def test_a_part_of_a_character_has_its_bytes() -> None:
    assert bytes_of("<0xF0>") == b"\xf0"
    assert bytes_of("ðŁĮ") == "🌲".encode()[:3]
    assert bytes_of("Ġa") == b" a"
    assert bytes_of("▁星") == b""


def test_temperature_zero_is_greedy_whatever_else_is_asked() -> None:
    greedy = sampler_settings(Sampling(4, temperature=0.0, top_k=50, top_p=0.5, min_p=0.3, typical_p=0.4))
    assert (greedy["top_k"], greedy["top_p"], greedy["min_p"], greedy["typical"]) == (1, 0.0, 0.0, 0.0)
    assert greedy["temperature"] > 0
    assert greedy["token_repetition_penalty"] == 1.0


def test_no_answer_is_written_into_the_log() -> None:
    said = "Unknown LMFormatEnforcer Problem. Prefix: 'my secret'\nTerminating the parser."
    record = logging.LogRecord("root", logging.ERROR, "", 0, said, None, None)
    assert without_text(record)
    assert "secret" not in record.getMessage()
    other = logging.LogRecord("root", logging.ERROR, "", 0, "%s is missing", ("it",), None)
    assert without_text(other)
    assert other.getMessage() == "it is missing"


def test_what_crossed_a_failure_on_the_wire_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sent = ExLlamaEngine(Options("m")), list[Any]()
    monkeypatch.setattr(engine, "_host", SimpleNamespace(send=sent.append))
    answer = engine._answers[7] = Pending(1)
    engine._heard({"broken": "out of memory"})
    assert answer.over
    assert sent == [{"cancel": 7}]
