"""`python -m inference`: models behind one address, until it is told to stop or its parent is gone.

Knows the engines by name; what they do is theirs.
"""

import argparse
import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import uvloop
from aiohttp import web

from inference import catalog, catalog_file
from inference.catalog import Model
from inference.engines.exllama import options as exllama
from inference.engines.registry import LLAMA_SLOTS, SCRIPTED_SLOTS, Registry, text_in
from inference.engines.remote import SLOTS
from inference.models import Models
from inference.protocol import EngineError
from inference.server import application

BUNDLED = "smollm2-135m-instruct"


def main() -> None:
    flags = _flags().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        key = _key(flags)
        if flags.parent_pipe:
            threading.Thread(target=_end_with_parent, daemon=True).start()
        uvloop.run(_serve(flags, key))
    except EngineError as error:
        sys.exit(f"inference: {error}")
    except KeyboardInterrupt:
        pass


async def _serve(flags: argparse.Namespace, key: str) -> None:
    listener = _listen(flags.host, flags.port)
    models = _models(flags)
    app = application(models, key, _admin_key(flags))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stop = asyncio.Event()
    starting = asyncio.create_task(models.start())

    def end() -> None:
        starting.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with contextlib.suppress(asyncio.CancelledError):  # Told to end while the model was still being loaded.
        await starting
        if flags.address_file:
            _announce(flags.address_file, url)
        card = models.hosted("").card()
        print(f"inference: {card.id} ({card.engine}) is ready at {url}", flush=True)
    await stop.wait()
    await runner.cleanup()
    await models.close()


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m inference",
        description="Serve models over an OpenAI-shaped HTTP interface.",
        epilog="The key that clients must send is read from --key-file, else from PARLEY_INFERENCE_KEY; the key to "
        "load and unload models from --admin-key-file, else from PARLEY_INFERENCE_ADMIN_KEY; the key of a remote "
        "server from --remote-key-file, else from PARLEY_REMOTE_KEY. PARLEY_SYSTEM_PROMPT is a system prompt that most "
        "conversations begin with: it is read once, and kept.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=0, help="port to listen at; 0 takes a free one (default)")
    add(
        "--engine",
        choices=("llama_cpp", "exllama", "remote", "scripted"),
        default="llama_cpp",
        help="default: %(default)s",
    )
    add(
        "--model",
        default="",
        help=f"name of a known model, or path of a .gguf file (default: {BUNDLED}); "
        "remote: its name there (default: the first that is listed); exllama: its directory",
    )
    add("--url", default="", help="remote: address of the OpenAI-compatible server")
    add("--remote-key-file", type=Path, default=None, help="remote: file that holds that server's key")
    add("--catalog", type=Path, default=None, help="TOML file of further models (default: models.toml in --home)")
    add("--home", type=Path, default=None, help="directory for models/ and for notes on verified files")
    add("--context", type=int, default=0, help="tokens one request may hold (default: what the model was trained on)")
    add(
        "--slots",
        type=int,
        default=0,
        help=f"requests that run at once (default: {LLAMA_SLOTS}, exllama {exllama.SLOTS}, remote {SLOTS}, "
        f"scripted {SCRIPTED_SLOTS})",
    )
    add("--kv-tokens", type=int, default=0, help=f"tokens that all slots hold together (default: {exllama.KV_TOKENS})")
    add("--threads", type=int, default=0, help="threads that compute (default: what the machine has to give)")
    add(
        "--trust-grammars",
        action="store_true",
        help="llama_cpp: take GBNF grammars; a few characters of one can stop the service, so only among friends",
    )
    add("--queue", type=int, default=256, help="requests that may wait (default: %(default)s)")
    add("--rate", type=float, default=0.0, help="scripted: tokens a second of answers without a script; 0 is at once")
    exllama.add_flags(parser)
    add("--address-file", type=Path, default=None, help="write {url, pid} there as JSON, once the model is warm")
    add("--key-file", type=Path, default=None, help="file that holds the key; - is the first line of stdin")
    add("--admin-key-file", type=Path, default=None, help="file that holds the key to load and unload models")
    add("--parent-pipe", action="store_true", help="end as soon as stdin does, so that no engine outlives its app")
    return parser


def _models(flags: argparse.Namespace) -> Models:
    """The models to host, first the one that was asked for: what the flags say of it, and the catalogue of the rest."""
    home = flags.home or Path()
    known: tuple[Model, ...] = catalog.KNOWN
    if flags.engine == "scripted":
        known = (Model(flags.model or "scripted", engine="scripted", slots=flags.slots),)
    elif flags.engine == "remote":
        if not flags.url:
            raise EngineError("--engine remote needs the server's address: --url")
        known = (Model(flags.model, engine="remote", url=flags.url, context=flags.context, slots=flags.slots),)
    elif flags.engine == "exllama":
        chosen = exllama.options_in(flags)
        known = (Model(chosen.model, chosen.folder, engine="exllama", exllama=chosen),)
    else:
        known = catalog_file.read(flags.catalog) if flags.catalog else catalog_file.known(home)
        wanted, _ = catalog.find(flags.model or BUNDLED, home / "models", known)
        wanted = replace(
            wanted,
            context=flags.context or wanted.context,
            slots=flags.slots or wanted.slots,
            kv_tokens=flags.kv_tokens or wanted.kv_tokens,
        )
        others = (model for model, _ in catalog.present(home / "models", known) if model.id != wanted.id)
        known = (wanted, *others)
    registry = Registry(
        home / "models",
        flags.home and flags.home / "verified-models.json",
        flags.threads,
        flags.rate,
        _remote_key(flags) if flags.engine == "remote" else "",
        os.environ.get("PARLEY_SYSTEM_PROMPT", ""),
        flags.home and flags.home / "prefixes",
        flags.trust_grammars,
    )
    known = tuple(registry.described(model) for model in known)
    return Models(known, registry.engine, flags.queue, registry.needs)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise EngineError(
                f"port {port} at {host} is taken by another program; choose another with --port"
            ) from error
        raise EngineError(f"cannot listen at {host}:{port}: {error}") from error


def _key(flags: argparse.Namespace) -> str:
    if flags.key_file is None:
        key = os.environ.get("PARLEY_INFERENCE_KEY", "")
    elif str(flags.key_file) == "-":
        key = _line_of_stdin()
    else:
        key = text_in(flags.key_file, "the key")
    key = key.strip()
    if not key and flags.host not in ("127.0.0.1", "::1", "localhost"):
        raise EngineError(f"refusing to listen at {flags.host} without a key")
    return key


def _admin_key(flags: argparse.Namespace) -> str:
    given = (
        os.environ.get("PARLEY_INFERENCE_ADMIN_KEY", "")
        if flags.admin_key_file is None
        else text_in(flags.admin_key_file, "the key")
    )
    return given.strip()


def _remote_key(flags: argparse.Namespace) -> str:
    key = (
        os.environ.get("PARLEY_REMOTE_KEY", "")
        if flags.remote_key_file is None
        else text_in(flags.remote_key_file, "the key")
    )
    key = key.strip()
    if not key.isprintable():  # A header holds one line.
        raise EngineError("the remote server's key is not one line of text")
    return key


def _line_of_stdin() -> str:
    # Byte by byte: what is buffered here would be missed by the thread that waits for the end.
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def _end_with_parent() -> None:
    # Not PR_SET_PDEATHSIG: that follows the thread which started us, not the process.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)


def _announce(file: Path, url: str) -> None:
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    draft.replace(file)


if __name__ == "__main__":
    main()
