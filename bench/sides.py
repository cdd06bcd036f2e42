"""The sides of `bench.gateway`: the backend itself, the relay, Parley on its two columns, LiteLLM. One worker each.

All of them run at the same time over one foreign backend; those that are not measured just now are idle.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from bench import peer_litellm, relay
from bench.foreign import FAST
from bench.http1 import post
from chat_app.settings import Settings
from tests.app import RunningApp, free_port
from tests.servers import Postgres, Server, Valkey, new_database

EMAIL = "bench@example.org"
GATHER_MS: int = Settings.model_fields["gather_ms"].default
"""What Parley gathers of an answer's text, whatever the environment says."""


@dataclass(slots=True)
class Side:
    """A server to be measured. `pids` are the roots of its processes, `stores` those of the servers that it needs."""

    name: str
    port: int
    key: str
    pids: Sequence[int]
    backend: int
    """The port of the engine behind it."""
    stores: Sequence[int] = ()
    _family: list[psutil.Process] = field(default_factory=list)

    def request(self, body: object) -> bytes:
        """A chat completion, ready to be sent."""
        return post("/v1/chat/completions", body, self.key, f"localhost:{self.port}")

    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used so far, stores left out."""
        return _cpu_s(self.pids)

    def stores_cpu_s(self) -> float:
        return _cpu_s(self.stores)


def _cpu_s(pids: Sequence[int]) -> float:
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, OSError):
                total += _process_cpu_s(process)
    return total


def _process_cpu_s(process: psutil.Process) -> float:
    if sys.platform == "linux":
        # The clock that clock_getcpuclockid(3) names: nanoseconds, where /proc has hundredths of a second.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


class Sides:
    """Starts them; closing the stack ends them."""

    def __init__(self, stack: ExitStack, folder: Path, *, tokenize: bool = False, gather_ms: int = GATHER_MS) -> None:
        self._stack = stack
        self._gather_ms = gather_ms
        self._folder = folder
        flags = ["--tokenize"] if tokenize else []
        backend = self._child([sys.executable, "-m", "bench.foreign", *flags], stdin=subprocess.PIPE)
        assert backend.stdout is not None
        self._backend = int(backend.stdout.readline())
        self.direct = Side("direct", self._backend, "none", [backend.pid], self._backend)

    def relay(self) -> Side:
        port = free_port()
        env = {**os.environ, relay.BACKEND: str(self._backend)}
        process = self._child([sys.executable, "-m", "bench.relay", str(port)], env=env)
        _wait(port, "/ping", process, 20)
        return Side("relay", port, "none", [process.pid], self._backend)

    def litellm(self) -> Side:
        """Raises `PeerMissing`."""
        port = free_port()
        process = peer_litellm.start(self._backend, port, self._folder)
        self._stack.callback(_end, process)
        try:
            _wait(port, "/health/liveliness", process, peer_litellm.START_S)
        except TimeoutError as error:
            raise peer_litellm.PeerMissing("LiteLLM did not start") from error
        return Side("litellm", port, peer_litellm.KEY, [process.pid], self._backend)

    def parley(self) -> Side:
        """Embedded: SQLite, everything in one process."""
        return self._parley("parley", {})

    def fleet(self) -> Side:
        """The same on PostgreSQL and Valkey."""
        postgres, valkey = Postgres(), Valkey()
        for server in (postgres, valkey):
            self._stack.callback(server.remove)
            server.start()
        env = {"PARLEY_DATABASE_URL": new_database(postgres.url), "PARLEY_REDIS_URL": valkey.url}
        side = self._parley("fleet", env)
        side.stores = [_pid(postgres), _pid(valkey)]
        return side

    def _parley(self, name: str, env: dict[str, str]) -> Side:
        backend = {
            "PARLEY_INFERENCE_URL": f"http://127.0.0.1:{self._backend}",
            "PARLEY_DEFAULT_MODEL": FAST,
            "PARLEY_GATHER_MS": str(self._gather_ms),
        }
        app = self._stack.enter_context(RunningApp(self._folder / name, env={**backend, **env}))
        app.sign_up(EMAIL)
        key = app.api_key(EMAIL, admin=True)
        _widen(app.port, key)
        assert app._process is not None
        return Side(name, app.port, key, [app._process.pid], self._backend)

    def _child(self, command: list[str], **options: object) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
        self._stack.callback(_end, process)
        return process  # type: ignore[no-any-return]


def _widen(port: int, key: str) -> None:
    """A plan's limits are kept and its numbers counted, but wide enough for a load of fifty clients."""
    plan = {"name": "Bench", "monthly_tokens": 10**12, "requests_per_minute": 10**6, "concurrent_streams": 1_000}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/admin/plans/enterprise",
        orjson.dumps(plan),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def _wait(port: int, path: str, process: "subprocess.Popen[bytes]", seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return
        except urllib.error.HTTPError:
            return  # It listens, which is all that is asked.
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def _pid(server: Server) -> int:
    assert server._process is not None
    return server._process.pid


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    process.terminate()
    _, alive = (
        psutil.wait_procs([psutil.Process(process.pid), *family], timeout=5) if process.poll() is None else ([], family)
    )
    for left in alive:
        left.kill()
    process.wait()
