"""The whole of Parley as a person starts it, for tests and benchmarks that need all of it: its own home, its own port.

with RunningApp(tmp_path / "home") as app:      # scripted engine unless told otherwise
    cookie = app.sign_up("ada@example.org")
    ...
    app.kill9()                                 # server, worker and engine, without a word
    app.start()                                 # same home, same port
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import psutil

from chat_app.accounts.grant import SCOPES

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "correct horse battery"


class DidNotStart(Exception):
    """The app ended, or was not ready in time. The message ends with its output."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningApp:
    """`python -m chat_app.serve` as a child process. `home` outlives it: start again and go on.

    `env` is added to this process's environment; every `PARLEY_` variable that is not in it is taken away. `arguments`
    go to the command.
    """

    def __init__(
        self,
        home: Path,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.arguments = arguments
        self.port = port or free_port()
        fixed = {"PARLEY_INFERENCE_ENGINE": "scripted", "PARLEY_EXPORT_MINUTES": "0", "PARLEY_METRICS_TOKEN": "figures"}
        self.env = {**fixed, **(env or {})}
        self.log = home.parent / f"{home.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it. `localhost`, so that cookies and origins are what people have."""
        return f"http://localhost:{self.port}"

    def start(self, timeout: float = 120) -> Self:
        """Start it and wait until it answers; a first start builds the page. Raises `DidNotStart`."""
        assert not self.is_ready(), "it still runs"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chat_app.serve", "--port", str(self.port), *self.arguments],
                cwd=ROOT,
                env={**inherited, **self.env, "PARLEY_HOME": str(self.home)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill9()
                raise DidNotStart(self.output())
            time.sleep(0.05)
        return self

    def is_ready(self) -> bool:
        """Whether it answers requests now."""
        try:
            return self.request("GET", "/healthz", timeout=5)[0] == 200
        except OSError:
            return False

    def kill9(self) -> None:
        """SIGKILL to everything: server, worker, engine. Nobody gets to say anything."""
        while processes := self.processes():  # A server may replace its worker before its own turn comes.
            self._signal(processes, signal.SIGKILL)

    def kill9_server(self) -> None:
        """SIGKILL to the process that was started, alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill9_engine(self) -> None:
        """SIGKILL to the engine alone. Raises `AssertionError` if none runs."""
        engines = self.engines()
        assert engines, "no engine is running"
        self._signal(engines, signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP to everything for the length of a `with`: connections stay open, and nothing gets an answer."""
        processes = self.processes()
        self._signal(processes, signal.SIGSTOP, wait_s=0)
        try:
            yield
        finally:
            self._signal(processes, signal.SIGCONT, wait_s=0)

    def stop(self, timeout: float = 30) -> None:
        """Ask it to end, as Ctrl-C or a container runtime does, and wait; what is left then is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill9()

    def processes(self) -> list[psutil.Process]:
        """Server, worker and engine that live now, also where their parent is gone (they keep its session)."""
        if self._process is None:
            return []
        session = self._process.pid
        family: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                mine = os.getsid(process.pid) == session or process.pid in family
                if mine:
                    family |= {child.pid: child for child in process.children(recursive=True)}
                    family[process.pid] = process
            except (psutil.Error, ProcessLookupError, PermissionError):
                continue
        return list(family.values())

    def engines(self) -> list[psutil.Process]:
        """The inference processes among them."""
        return [process for process in self.processes() if "inference" in _command(process)]

    def idle_memory(self) -> int:
        """Bytes that server and worker hold (proportional set size), the engine left out."""
        engines = {process.pid for process in self.engines()}
        return sum(p.memory_full_info().pss for p in self.processes() if p.pid not in engines)

    def output(self) -> str:
        """The last of what it printed."""
        return self.log.read_text(errors="replace")[-8_000:] if self.log.exists() else ""

    def request(
        self, method: str, path: str, form: Mapping[str, str] | None = None, timeout: float = 30, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One plain HTTP request, redirects not followed; answers status, headers (lower case) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            body = urlencode(form) if form is not None else None
            sent = {"Host": f"localhost:{self.port}", "Origin": self.url} if form is not None else {}
            if form is not None:
                sent["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, body, {**sent, **headers})
            response = connection.getresponse()
            # Of several with one name the first: of the cookies the session's.
            received = {name.lower(): value for name, value in reversed(response.getheaders())}
            return response.status, received, response.read()
        finally:
            connection.close()

    def sign_up(self, email: str, password: str = PASSWORD, name: str = "") -> str:
        """Make an account (the first is the administrator's); answers the `Cookie` header of its browser session."""
        return self._cookie("/auth/signup", {"email": email, "password": password, "name": name})

    def sign_in(self, email: str, password: str = PASSWORD) -> str:
        """Answers the `Cookie` header of a new browser session."""
        return self._cookie("/auth/login", {"email": email, "password": password})

    def command(self, *arguments: str) -> str:
        """`python -m chat_app …` beside the running app, on the same stores; answers what it printed."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        done = subprocess.run(
            [sys.executable, "-m", "chat_app", *arguments],
            cwd=ROOT,
            env={**env, **self.env, "PARLEY_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def metrics(self) -> str:
        """The app's figures, as Prometheus reads them."""
        return self.request("GET", "/metrics", Authorization=f"Bearer {self.env['PARLEY_METRICS_TOKEN']}")[2].decode()

    def unlimited(self, email: str) -> None:
        """Put an account on the plan without a monthly limit."""
        self.command("users", "plan", "--email", email, "enterprise")

    def api_key(self, email: str, *, admin: bool = False) -> str:
        """A new key of an account."""
        scopes = [word for scope in SCOPES for word in ("--scope", scope)] if admin else []
        return self.command("keys", "create", "--email", email, *scopes)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _cookie(self, path: str, form: Mapping[str, str]) -> str:
        status, headers, body = self.request("POST", path, form)
        if "bad_setup_code" in headers.get("location", ""):  # It is the first account.
            status, headers, body = self.request("POST", path, {**form, "code": self.command("setup-code")})
        cookie = headers.get("set-cookie", "").partition(";")[0]
        assert "parley_session=" in cookie, f"{path} answered {status}: {headers} {body[:500]!r}"
        return cookie

    @staticmethod
    def _signal(processes: list[psutil.Process], number: int, wait_s: float = 10) -> None:
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=wait_s)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
