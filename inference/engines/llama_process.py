"""`python -m inference.engines.llama_process`: llama.cpp's own server, embedded by xllamacpp, for one model.

A process of its own, because it holds the interpreter's lock while it loads, because a damaged file can take its
process with it, and because only the end of a process gives all of its memory back. Its parent writes one line of JSON
to its stdin, the fields of `Order`, and reads one from its stdout: {"url": ...} once the model is loaded, or
{"error": ...}. It ends when its stdin does, so never outlives its parent.
"""

import importlib
import os
import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import orjson

# A token of 135M parameters passes hundreds of barriers. Threads that spin at them as long as OpenMP likes starve each
# other as soon as anything else wants a core (105 tokens/s fell to 10); with a short spin it costs nothing either way.
SPINS = "200"


@dataclass(frozen=True, slots=True)
class Order:
    """What to serve. `kv_tokens` are shared by all `slots`; `batch`: tokens that are read as one; `cache_mib`: of the
    host's memory, for prompts whose slot was taken by another conversation. `template` is the text of a Jinja chat
    template, empty for the model's own. `memory`: bytes that the process may take beside the file itself; a template
    or a grammar that wants more ends it, not the machine. `saved`: the directory for what slots are told to save, or
    empty. `embeds`: it makes vectors, and no answers.
    """

    path: str
    model: str
    memory: int
    slots: int
    kv_tokens: int
    batch: int
    threads: int
    cache_mib: int = 0
    template: str = ""
    saved: str = ""
    embeds: bool = False
    key: str = ""

    def line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"


def main() -> None:
    # Whatever the library prints must not get between the parent and its one line.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    order = Order(**orjson.loads(sys.stdin.buffer.readline()))
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory, order.memory))
    try:
        server = _open(order)
    except (RuntimeError, ValueError, MemoryError) as error:
        _tell(answer, error=str(error))
        return
    _tell(answer, url=str(server.listening_address))
    sys.stdin.buffer.read()
    os._exit(0)  # The parent is gone; what still runs is nobody's.


def _open(order: Order) -> Any:
    # Read when the library is loaded, so it has to be there before the import.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = order.path
    params.model_alias = {order.model}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order.key]
    params.ui = False
    params.verbosity = 1
    params.warmup = False  # The engine does it with a real prompt.
    params.prefill_assistant = False  # `continue_from` says what is to be continued; nothing else is.
    params.n_parallel = order.slots
    params.n_ctx = order.kv_tokens
    params.kv_unified = True
    params.n_batch = params.n_ubatch = order.batch
    params.cache_ram_mib = order.cache_mib
    # Else every new job sends all idle slots to the host's cache, from where only one conversation gets back what they
    # had in common: of eight that begin at once, seven read the system prompt again, each after the other.
    params.cache_idle_slots = False
    if order.saved:
        params.slot_save_path = f"{order.saved}/"
    params.n_threads_http = 2 * order.slots + 8
    params.cpuparams.n_threads = order.threads
    params.cpuparams_batch.n_threads = order.threads
    if order.embeds:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if order.template:
        params.chat_template = order.template
    return xllamacpp.Server(params)


def _tell(answer: BinaryIO, **line: str) -> None:
    answer.write(orjson.dumps(line) + b"\n")
    answer.close()


if __name__ == "__main__":
    main()
