"""`python -m inference`: one model behind one address, until it is told to stop or its parent is gone.

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
from pathlib import Path

import uvloop
from aiohttp import web

from inference import catalog
from inference.engines.base import Engine
from inference.engines.remote import SLOTS, RemoteEngine
from inference.engines.scripted import ScriptedEngine
from inference.protocol import EngineError
from inference.server import application
from inference.service import Service

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
    service = Service(_engine(flags), flags.queue)
    runner = web.AppRunner(application(service, key), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    await service.start()
    if flags.address_file:
        _announce(flags.address_file, url)
    able = service.engine.capabilities
    print(f"inference: {able.model} ({able.engine}) is ready at {url}", flush=True)
    await stop.wait()
    await runner.cleanup()
    await service.close()


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m inference",
        description="Serve one model over an OpenAI-shaped HTTP interface.",
        epilog="The key that clients must send is read from --key-file, else from PARLEY_INFERENCE_KEY; the key of a "
        "remote server from --remote-key-file, else from PARLEY_REMOTE_KEY.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=0, help="port to listen at; 0 takes a free one (default)")
    add("--engine", choices=("llama_cpp", "remote", "scripted"), default="llama_cpp", help="default: %(default)s")
    add(
        "--model",
        default="",
        help=f"name of a known model, or path of a .gguf file (default: {BUNDLED}); "
        "remote: its name there (default: the first that is listed)",
    )
    add("--url", default="", help="remote: address of the OpenAI-compatible server")
    add("--remote-key-file", type=Path, default=None, help="remote: file that holds that server's key")
    add("--home", type=Path, default=None, help="directory for models/ and for notes on verified files")
    add("--context", type=int, default=0, help="tokens one request may hold (default: what the model was trained on)")
    add("--slots", type=int, default=0, help=f"requests that run at once (default: 8, remote {SLOTS}, scripted 256)")
    add("--kv-tokens", type=int, default=16_384, help="tokens that all slots hold together (default: %(default)s)")
    add("--threads", type=int, default=0, help="threads that compute (default: what the machine has to give)")
    add("--queue", type=int, default=256, help="requests that may wait (default: %(default)s)")
    add("--rate", type=float, default=0.0, help="scripted: tokens a second of answers without a script; 0 is at once")
    add("--address-file", type=Path, default=None, help="write {url, pid} there as JSON, once the model is warm")
    add("--key-file", type=Path, default=None, help="file that holds the key; - is the first line of stdin")
    add("--parent-pipe", action="store_true", help="end as soon as stdin does, so that no engine outlives its app")
    return parser


def _engine(flags: argparse.Namespace) -> Engine:
    if flags.engine == "scripted":
        return ScriptedEngine(flags.model or "scripted", flags.slots or 256, flags.rate)
    if flags.engine == "remote":
        if not flags.url:
            raise EngineError("--engine remote needs the server's address: --url")
        return RemoteEngine(flags.url, _remote_key(flags), flags.model, flags.context, flags.slots or SLOTS)
    from inference.engines.llama_cpp import LlamaCppEngine

    home = flags.home or Path()
    model, path = catalog.find(flags.model or BUNDLED, home / "models")
    catalog.verify(model, path, flags.home and flags.home / "verified-models.json")
    context = flags.context or model.context
    return LlamaCppEngine(model.id, path, context, flags.slots or 8, flags.kv_tokens, flags.threads)


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
        key = _text_of(flags.key_file)
    key = key.strip()
    if not key and flags.host not in ("127.0.0.1", "::1", "localhost"):
        raise EngineError(f"refusing to listen at {flags.host} without a key")
    return key


def _remote_key(flags: argparse.Namespace) -> str:
    key = os.environ.get("PARLEY_REMOTE_KEY", "") if flags.remote_key_file is None else _text_of(flags.remote_key_file)
    key = key.strip()
    if not key.isprintable():  # A header holds one line.
        raise EngineError("the remote server's key is not one line of text")
    return key


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise EngineError(f"cannot read the key in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"cannot read the key in {file}: it is no text") from error


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
