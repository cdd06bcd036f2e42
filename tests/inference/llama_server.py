"""`python -m tests.inference.llama_server GGUF MODEL ADDRESS_FILE`: llama.cpp's own server, as anybody would run it.

Reads its key from the first line of stdin, writes its address once it listens, ends when stdin does.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    model, name, address_file = sys.argv[1:]
    key = sys.stdin.readline().strip()
    os.environ.setdefault("GOMP_SPINCOUNT", "200")  # Else its threads starve each other; see inference.engines.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.verbosity = 1
    params.n_parallel = 8
    params.n_ctx = 16_384
    params.kv_unified = True
    params.n_batch = params.n_ubatch = 128
    params.n_threads_http = 24
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(2, os.cpu_count() or 1)
    server = xllamacpp.Server(params)
    draft = Path(f"{address_file}.draft")
    draft.write_text(server.listening_address)
    draft.replace(address_file)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
