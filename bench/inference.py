"""The inference service, measured: beside llama.cpp's own server, and by what it promises on top of it.

    python -m bench.inference [part ...]

Run it on a quiet machine; it takes some eight minutes on two cores. The environment variable LLAMA_SERVER may name a
`llama-server` binary, which is then a second peer. Everything is on loopback, with the bundled model or the scripted
engine; what a large model or a GPU would show it does not know. Ends with 1 if a figure misses its bound.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import beside, cached, cancel, fairness, llama_server, resume
from bench.bounds import INFERENCE
from bench.llama_server import MODEL
from bench.load import Target
from bench.report import Row, conclude
from tests.parley import EngineProcess

Part = tuple[list[Row], dict[str, float]]
SLOTS = 16
KV_TOKENS = 16_384
FLAGS = ("--slots", str(SLOTS), "--kv-tokens", str(KV_TOKENS))


@contextmanager
def served(folder: Path, engine: str, *flags: str) -> Iterator[Target]:
    """An inference service in a process of its own."""
    folder.mkdir()
    process = EngineProcess(folder, engine, flags)
    try:
        model = MODEL if engine == "llama_cpp" else engine
        yield Target("service", process.start(), "engine-key", model)
    finally:
        process.kill()


async def beside_llama(folder: Path) -> Part:
    with ExitStack() as stack:
        service = stack.enter_context(served(folder, "llama_cpp", *FLAGS))
        peers = [stack.enter_context(llama_server.embedded(SLOTS, KV_TOKENS))]
        if binary := os.environ.get("LLAMA_SERVER"):
            peers.append(stack.enter_context(llama_server.native(binary, SLOTS, KV_TOKENS)))
        return await beside.measure(service, peers)


async def cached_ttft(folder: Path) -> Part:
    with served(folder, "llama_cpp", *FLAGS) as service:
        return await cached.measure(service)


async def cancelled(folder: Path) -> Part:
    with served(folder, "llama_cpp", *FLAGS) as service:
        return await cancel.measure(service)


async def fair(folder: Path) -> Part:
    with served(folder, "scripted", "--slots", str(fairness.SLOTS)) as service:
        return await fairness.measure(service)


async def resumed(folder: Path) -> Part:
    folder.mkdir()
    return await resume.measure(folder)


PARTS = {"beside": beside_llama, "cached": cached_ttft, "fair": fair, "cancel": cancelled, "resume": resumed}


async def main(words: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("part", nargs="*", help=f"only these of: {', '.join(PARTS)}")
    chosen = arguments.parse_args(words).part or list(PARTS)
    rows: list[Row] = []
    figures: dict[str, float | str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen:
            print(f"{part} …", file=sys.stderr, flush=True)
            part_rows, part_figures = await PARTS[part](Path(folder) / part)
            for what, measured, limit in part_rows:
                print(f"  {what}: {measured} ({limit})", file=sys.stderr, flush=True)
            rows += part_rows
            figures |= part_figures
    return conclude("Parley: the inference service", rows, figures, INFERENCE)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
