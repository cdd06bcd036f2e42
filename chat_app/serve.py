"""Starts Parley for real: `make run`, a container, the tests.

Checks what would go wrong later (port, workers), builds the page if its sources changed, migrates, verifies the model,
says what it is doing, and then becomes the server. It does not know how to install anything; `make` does that.
"""

import argparse
import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server
from pydantic import ValidationError

from chat_app.accounts.second_factor import KEY_FILE as SECOND_FACTOR_KEY
from chat_app.accounts.setup_code import SetupCode
from chat_app.announcement import announce
from chat_app.audit.trail import Trail
from chat_app.data import migrations
from chat_app.data.db import open_database
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.home import HomeInUse, hold_home
from chat_app.data.key_file import BadKey, key_in
from chat_app.settings import Settings, settings, wrong
from chat_app.telemetry.pseudonyms import Pseudonyms
from chat_app.ui.build import ROOT, BuildFailed, build, built, serving
from inference import catalog, catalog_file
from inference.protocol import EngineError

COLLECT_AFTER = 10_000
"""New objects before the garbage collector looks for cycles, instead of Python's 700: a call makes hundreds of them,
and looking that often took a tenth of its CPU. So many are a few megabytes."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with; whoever starts Parley chooses


class CannotStart(Exception):
    """Why Parley does not start, in a person's words."""


def serve(port: int = 3000, host: str = "", workers: int = 1, *, setup_only: bool = False) -> NoReturn:
    """Prepare everything and serve on `port` of `host` (the setting if empty); with `setup_only`, end with everything
    prepared.

    Never returns: exits 0 after a set-up or when it is told to end, 1 with the reason where it cannot start.
    """
    try:
        chosen = settings()
        chosen = chosen.model_copy(update={"home": chosen.home.absolute(), "host": host or chosen.host})
        host = chosen.host
        if not setup_only:
            check_workers(workers, chosen)
            check_port(host, port)
            check_home_is_free(chosen)
        directory = prepare(chosen)
        code = "" if setup_only else first_code(chosen)
    except ValidationError as error:
        sys.exit(f"\n✗ {wrong(error)}")
    except (CannotStart, BuildFailed) as error:
        sys.exit(f"\n✗ {error}")
    if setup_only:
        print(f"✓ Everything is set up. All state lies in {chosen.home}")
        sys.exit(0)
    os.environ |= {**serving(directory), "PARLEY_HOME": str(chosen.home), "PARLEY_HOST": host, "PORT": str(port)}
    if workers > 1:
        os.environ["REFLEX_OPLOCK_ENABLED"] = "true"
    os.chdir(ROOT)
    settings.cache_clear()
    run(host, port, workers, address(chosen, host, port), code)
    sys.exit(0)


def address(chosen: Settings, host: str, port: int) -> str:
    """Where a person's browser finds it."""
    name = "localhost" if host in (*_EVERYWHERE, "127.0.0.1", "::1") else host
    return chosen.public_url or f"http://{name}:{port}"


def run(host: str, port: int, workers: int, said: str, code: str = "") -> None:
    """Serve until SIGINT or SIGTERM, and print the address `said` once it can be used, with the set-up `code` if there
    is one. A worker that dies is replaced.

    The app is imported before the workers are forked: they share its memory, and start at once.
    """
    sys.path.insert(0, str(ROOT))
    import_module("chat_app.chat_app")
    multiprocessing.set_start_method("fork", force=True)
    os.register_at_fork(after_in_child=_end_with(os.getpid()))
    sys.stdout.flush()
    gc.collect()
    gc.freeze()  # Or the workers' collections would copy the pages that they share.
    gc.set_threshold(COLLECT_AFTER)
    server = Server(
        "chat_app.chat_app:app",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=workers,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        log_level=LogLevels.warning,
        log_access=False,
    )
    multiprocessing.Process(target=_say_when_ready, args=(host, port, said, code), daemon=True).start()
    server.serve()


def _end_with(server: int) -> Callable[[], None]:
    """For each process that `server` forks: it ends when the server does, however that ends. Else a worker whose server
    was killed would go on with its port and its home, and the next start would find both taken. Linux only."""
    bound = False

    def bind() -> None:
        nonlocal bound
        if sys.platform != "linux" or bound:  # What the worker forks in its turn is the worker's.
            return
        bound = True
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # It has gone meanwhile.
            os._exit(1)

    return bind


def prepare(chosen: Settings) -> Path:
    """The home directory, the page, the database and the model, each ready; returns the directory of the page's build.

    Raises `CannotStart` or `BuildFailed`.
    """
    with _step("home", lambda: str(chosen.home)):
        make_home(chosen.home)
        check_key(chosen.home)
    with _step("page", lambda: "built" if fresh else "as built before"):
        fresh = built() is None
        directory = build()
    with _step("database"):
        migrate(chosen)
    with _step("model", lambda: found):
        found = find_model(chosen)
    return directory


def make_home(home: Path) -> None:
    """The directory of all state. Raises `CannotStart` if it cannot be written."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise CannotStart(f"PARLEY_HOME ({home}) cannot be written: {error.strerror}.") from error


def check_key(home: Path) -> None:
    """Raises `CannotStart` if the key that events name people by is damaged, without which no answer could be ended, or
    that of second factors, without which nobody who has one could sign in."""
    try:
        Pseudonyms.of_home(home)
        key_in(home / SECOND_FACTOR_KEY)
    except (BadKey, OSError) as error:
        raise CannotStart(str(error)) from error


def check_home_is_free(chosen: Settings) -> None:
    """Raises `CannotStart` if another Parley has it and there is no Redis to share it through."""
    if not chosen.embedded or not chosen.home.exists():
        return
    try:
        with hold_home(chosen.home):
            pass
    except HomeInUse as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"PARLEY_HOME ({chosen.home}) cannot be written: {error.strerror}.") from error


def check_port(host: str, port: int) -> None:
    """Raises `CannotStart` if something else listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"Port {port} on {host} cannot be used: {error.strerror}. Choose another one: PORT={port + 1}"
            ) from error
        except OverflowError as error:
            raise CannotStart(f"There is no port {port}: choose one up to 65535.") from error


def check_workers(workers: int, chosen: Settings) -> None:
    """Raises `CannotStart` for more than one worker without Redis."""
    if workers > 1 and chosen.embedded:
        raise CannotStart(
            f"{workers} workers need Redis or Valkey (PARLEY_REDIS_URL): without it one process alone holds"
            " the home directory, the generation log and the limits."
        )


def migrate(chosen: Settings) -> None:
    """Bring the database to the present schema. Raises `CannotStart`."""
    try:
        migrations.migrate(chosen)
    except DatabaseUnavailable as error:
        raise CannotStart(f"The database cannot be opened: {error}") from error


def find_model(chosen: Settings) -> str:
    """What will answer; the file of a model of our own is read and verified. Raises `CannotStart`."""
    if chosen.inference_url:
        return f"served at {', '.join(chosen.inference_urls)}"
    if chosen.inference_engine != "llama_cpp":
        return f"the {chosen.inference_engine} engine"
    models = chosen.home / "models"
    try:
        model, path = catalog.find(chosen.default_model, models, catalog_file.known(chosen.home))
        catalog.verify(model, path, chosen.home / "verified-models.json")
    except EngineError as error:
        raise CannotStart(f"The model cannot be used: {error}") from error
    return f"{model.id}, {path.stat().st_size / 1e6:,.0f} MB, verified"


def first_code(chosen: Settings) -> str:
    """The set-up code, as long as the first account is still to be made. Raises `CannotStart`."""

    async def look() -> str:
        db = open_database(chosen)
        await db.start()
        try:
            return await SetupCode(db, Trail(db)).current() or ""
        finally:
            await db.close()

    try:
        return asyncio.run(look())
    except DatabaseUnavailable as error:
        raise CannotStart(f"The database cannot be used: {error}") from error


def _say_when_ready(host: str, port: int, said: str, code: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's.
    server = os.getppid()
    announce("127.0.0.1" if host in _EVERYWHERE else host, port, said, code, lives=lambda: os.getppid() == server)


@contextmanager
def _step(name: str, outcome: Callable[[], str] = lambda: "ready") -> Iterator[None]:
    print(f"  {name:<10}", end="", flush=True)
    begun = time.monotonic()
    yield
    print(f"{outcome()}  ({time.monotonic() - begun:.1f} s)", flush=True)


def main() -> NoReturn:
    """`python -m chat_app.serve [--port N] [--host ADDRESS] [--workers N] [--setup-only]`"""
    parser = argparse.ArgumentParser(prog="python -m chat_app.serve", description="Start Parley.")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or "3000", help="(PORT, or 3000)")
    parser.add_argument("--host", default="", help="address to listen on; 0.0.0.0 for every one (PARLEY_HOST)")
    parser.add_argument("--workers", type=int, default=1, help="more than one needs Redis")
    parser.add_argument("--setup-only", action="store_true", help="prepare everything, start nothing")
    given = parser.parse_args()
    serve(given.port, given.host, given.workers, setup_only=given.setup_only)


if __name__ == "__main__":
    main()
