"""The exllama engine through the service over the bare generator of ExLlamaV2, at batch 1 and 16.

    python -m bench.gpu MODEL_DIRECTORY

Both hold the model at the same time, each in a process of its own, so the GPU needs room for it twice; they take turns.
The bare one is asked by its own `generate`, with the same tokens of the same prompts, and neither finds a prompt in its
cache. Without a GPU it measures nothing and says so. Ends with 1 if a ratio misses its bound.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.bounds import GPU
from bench.load import Target, client, conversation, throughput
from bench.report import Row, conclude, p50
from inference.engines.exllama import v2
from inference.protocol import EngineError
from tests.parley import EngineProcess

ROUNDS = {1: 10, 16: 10}
TOKENS = 256
SLOTS = 16
KV_TOKENS = 16_384
KEY = "engine-key"  # The one of `EngineProcess`.


class Bare:
    """ExLlamaV2's generator without anything of ours, in a process of its own."""

    def __init__(self, model: str) -> None:
        command = [sys.executable, "-m", "bench.gpu", "--bare", model]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask([[1]])

    def ask(self, prompts: list[list[int]]) -> float:
        """Tokens per second of the answers to these prompts, all asked at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(prompts) + b"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # It prints other things too.
            if line.startswith(b'{"tokens_s":'):
                return float(orjson.loads(line)["tokens_s"])
        raise RuntimeError("the bare generator has ended")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def bare(model: str) -> None:
    """The other process: a line of prompts in, a line with their speed out."""
    exl2 = v2.packages()
    import torch  # type: ignore[import-not-found,unused-ignore]
    from exllamav2 import attn, generator  # type: ignore[import-not-found,unused-ignore]

    config = exl2.ExLlamaV2Config(model)
    config.arch_compat_overrides()
    loaded = exl2.ExLlamaV2(config)
    paged = attn.has_flash_attn_with_paged
    cache = exl2.ExLlamaV2Cache(loaded, max_seq_len=KV_TOKENS + SLOTS * v2.PAGE, lazy=True)
    loaded.load_autosplit(cache)
    tokenizer = exl2.ExLlamaV2Tokenizer(config)
    made = generator.ExLlamaV2DynamicGenerator(
        loaded, cache, tokenizer, max_batch_size=SLOTS if paged else 1, max_chunk_size=1024, paged=paged
    )
    made.warmup()
    for line in sys.stdin:
        began, tokens = time.perf_counter(), 0
        for prompt in orjson.loads(line):
            ids = torch.tensor([prompt], dtype=torch.long)
            greedy = generator.ExLlamaV2Sampler.Settings.greedy()
            ends = [tokenizer.eos_token_id]
            made.enqueue(generator.ExLlamaV2DynamicJob(ids, TOKENS, gen_settings=greedy, stop_conditions=ends))
        while made.num_remaining_jobs():
            tokens += sum(result.get("new_tokens", 0) for result in made.iterate() if result["eos"])
        print(json.dumps({"tokens_s": tokens / (time.perf_counter() - began)}), flush=True)


@contextmanager
def both(model: str) -> Iterator[tuple[Target, Bare]]:
    with tempfile.TemporaryDirectory() as home:
        flags = ("--model", model, "--slots", str(SLOTS), "--kv-tokens", str(KV_TOKENS))
        process = EngineProcess(Path(home), "exllama", flags, patience=600)
        peer: Bare | None = None
        try:
            service = Target("service", process.start(), KEY, Path(model).resolve().name.lower())
            peer = Bare(model)
            yield service, peer
        finally:
            process.kill()
            if peer is not None:
                peer.close()


async def measure(model: str) -> tuple[list[Row], dict[str, float]]:
    rows: list[Row] = []
    figures: dict[str, float] = {}
    with both(model) as (service, peer):
        for streams, rounds in ROUNDS.items():
            speeds: list[tuple[float, float]] = []
            for at in range(rounds):
                questions = [f"Part {at} of {streams}: write a long essay, number {n}." for n in range(streams)]
                prompts = [await _tokens(service, question) for question in questions]
                if at % 2:
                    theirs = peer.ask(prompts)
                    ours = await throughput(service, questions, TOKENS)
                else:
                    ours = await throughput(service, questions, TOKENS)
                    theirs = peer.ask(prompts)
                speeds.append((ours, theirs))
            ratio = p50([ours / theirs for ours, theirs in speeds])
            key = f"gpu_tokens_ratio_{streams}"
            figures[key] = ratio
            medians = [p50(side) for side in zip(*speeds, strict=True)]
            rows.append(
                (
                    f"tokens/s, batch {streams}, service / bare",
                    f"{ratio:.3f} ({medians[0]:.0f} / {medians[1]:.0f})",
                    str(GPU[key]),
                )
            )
    return rows, figures


async def _tokens(service: Target, question: str) -> list[int]:
    async with client() as session:
        headers = {"Authorization": f"Bearer {service.key}"}
        body: dict[str, Any] = {"messages": conversation(question)}
        answer = await session.post(f"{service.url}/tokenize", json=body, headers=headers)
        return list((await answer.json())["tokens"])


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("model", nargs="?", default="", help="directory of an EXL2, GPTQ or FP16 chat model")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    try:
        v2.packages()
    except EngineError as error:
        print(f"There is no GPU to measure on: {error}.")
        print(json.dumps({"gpu": None}))
        return 0
    if not flags.model:
        parser.error("which model? Give its directory")
    if flags.bare:
        bare(flags.model)
        return 0
    import torch

    device = str(torch.cuda.get_device_name(0))
    rows, figures = asyncio.run(measure(flags.model))
    return conclude(f"ExLlamaV2 on {device}", rows, {"gpu": device, **figures}, GPU)


if __name__ == "__main__":
    sys.exit(main())
