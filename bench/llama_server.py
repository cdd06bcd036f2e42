"""The peer: llama.cpp's own server and nothing of ours around it, in a process of its own.

    python -m bench.llama_server --slots 16 --kv-tokens 16384

prints its address, and ends when its stdin does. It is started by the very function that starts it inside the
inference service, so both sides have the same model file, threads, slots, window, batch and spinning of threads, to the
last option. `native` runs a `llama-server` binary in the same way, as far as its options go; it was compiled by
somebody else, with other options, so it may be faster or slower for reasons that are not ours.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import Target
from inference import catalog
from inference.engines.llama_cpp import BATCH, HOST_CACHE_MIB, SPINS, LlamaCppEngine, spare_cores

MODEL = "smollm2-135m-instruct"
KEY = "peer-key"


@contextmanager
def embedded(slots: int, kv_tokens: int) -> Iterator[Target]:
    """The server that xllamacpp carries."""
    command = [sys.executable, "-m", "bench.llama_server", "--slots", str(slots), "--kv-tokens", str(kv_tokens)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = next((line.strip() for line in process.stdout if line.startswith("http://")), "")
        if not url:
            raise RuntimeError("llama.cpp's server did not start; what it said is above")
        yield Target("llama.cpp", url, KEY, MODEL)
    finally:
        process.kill()
        process.wait()


@contextmanager
def native(binary: str, slots: int, kv_tokens: int) -> Iterator[Target]:
    """A `llama-server` of this machine's own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    threads = str(spare_cores())
    options = {
        "--model": str(catalog.find(MODEL, Path())[1]),
        "--alias": MODEL,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--api-key": KEY,
        "--parallel": str(slots),
        "--ctx-size": str(kv_tokens),
        "--batch-size": str(BATCH),
        "--ubatch-size": str(BATCH),
        "--threads": threads,
        "--threads-batch": threads,
        "--cache-ram": str(HOST_CACHE_MIB),
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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--slots", type=int, required=True)
    arguments.add_argument("--kv-tokens", type=int, required=True)
    chosen = arguments.parse_args()
    model, path = catalog.find(MODEL, Path())
    server = LlamaCppEngine(model.id, path, model.context, chosen.slots, chosen.kv_tokens)._open(KEY)
    print(server.listening_address, flush=True)
    # Nobody reads on: a full pipe would hold up the server's own prints, and with them the server.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
