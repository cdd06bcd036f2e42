"""The peer: llama.cpp's own server and nothing of ours around it, in a process of its own.

It is the very process that the inference service starts, with the same order, so both sides have the same model file,
threads, slots, window, batch and spinning of threads, to the last option. `native` runs a `llama-server` binary in
the same way, as far as its options go; it was compiled by somebody else, with other options, so it may be faster or
slower for reasons that are not ours.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson

from bench.load import Target
from inference import catalog
from inference.engines.llama_cpp import LlamaCppEngine
from inference.engines.llama_process import SPINS

MODEL = "smollm2-135m-instruct"
KEY = "peer-key"


@contextmanager
def embedded(slots: int, kv_tokens: int) -> Iterator[Target]:
    """The server that xllamacpp carries."""
    model, path = catalog.find(MODEL, Path())
    order = replace(LlamaCppEngine(model.id, path, model.context, slots, kv_tokens).order, key=KEY)
    command = [sys.executable, "-m", "inference.engines.llama_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order.line())
        process.stdin.flush()
        said = process.stdout.readline()
        if not said or "url" not in (answer := orjson.loads(said)):
            raise RuntimeError(f"llama.cpp's server did not start: {said.decode()}")
        yield Target("llama.cpp", answer["url"], KEY, MODEL)
    finally:
        process.kill()
        process.wait()


@contextmanager
def native(binary: str, slots: int, kv_tokens: int) -> Iterator[Target]:
    """A `llama-server` of this machine's own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model, path = catalog.find(MODEL, Path())
    order = LlamaCppEngine(model.id, path, model.context, slots, kv_tokens).order
    options = {
        "--model": str(path),
        "--alias": MODEL,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--api-key": KEY,
        "--parallel": str(slots),
        "--ctx-size": str(kv_tokens),
        "--batch-size": str(order.batch),
        "--ubatch-size": str(order.batch),
        "--threads": str(order.threads),
        "--threads-batch": str(order.threads),
        "--cache-ram": str(order.cache_mib),
    }
    command = [binary, "--kv-unified", "--log-disable", *(word for option in options.items() for word in option)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={"GOMP_SPINCOUNT": SPINS, **os.environ})
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url)
        yield Target("llama-server", url, KEY, MODEL)
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:  # It refuses while it loads.
            time.sleep(0.05)
    raise RuntimeError("the llama-server of LLAMA_SERVER did not start")
