"""Builds the page for production, once for each state of its sources.

A build follows the address that it is opened under (`same_origin`), so one serves every port and every home directory;
it lies in the checkout's `.web/builds/<stamp>`, with the stamp over everything that went into it. It does not know how
the page is served.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = 3
"""Builds that stay on disk: servers that are still running may serve an older one."""


class BuildFailed(Exception):
    """Reflex could not build the page. The message ends with what it said."""


def stamp(root: Path = ROOT) -> str:
    """Hash over the page's sources, its locked packages and the versions that translate them."""
    hashed = hashlib.sha256(f"reflex {version('reflex')}, python {sys.version_info[:2]}".encode())
    for path in _sources(root):
        hashed.update(f"\0{path.relative_to(root)}\0".encode())
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def built(root: Path = ROOT) -> Path | None:
    """The directory of the build of the present sources, if there is one."""
    directory = root / ".web" / "builds" / stamp(root)
    return directory if directory.is_dir() else None


def build(root: Path = ROOT) -> Path:
    """The build of the present sources, made now if need be (about 15 s). Raises `BuildFailed`.

    Processes that ask at the same time wait for one of them to build.
    """
    (root / ".web").mkdir(exist_ok=True)
    with _alone(root / ".web" / "builds.lock"):
        if (ready := built(root)) is not None:
            return ready
        # Named now: the export rewrites its lock, and a person may go on editing while it runs.
        builds, name = root / ".web" / "builds", stamp(root)
        with _laid_out_as_before(root / "reflex.lock" / "package.json"):
            _export(root)
        coming = builds / f"{name}.part"
        shutil.rmtree(coming, ignore_errors=True)
        shutil.copytree(root / ".web" / "build" / "client", coming / "build" / "client")
        shutil.copytree(root / ".web" / "backend", coming / "backend")
        coming.rename(builds / name)
        _tidy(builds)
        return builds / name


def serving(directory: Path) -> Mapping[str, str]:
    """The environment in which Reflex serves this build instead of compiling (names of Reflex 0.10)."""
    return {
        "REFLEX_WEB_WORKDIR": str(directory),
        "REFLEX_ENV_MODE": "prod",
        "__REFLEX_SKIP_COMPILE": "true",
        "__REFLEX_MOUNT_FRONTEND_COMPILED_APP": "true",
    }


def _sources(root: Path) -> Iterator[Path]:
    yield root / "rxconfig.py"
    yield root / "chat_app" / "chat_app.py"
    for folder, pattern in (("chat_app/ui", "*.py"), ("assets", "*"), ("reflex.lock", "*")):
        yield from sorted(path for path in (root / folder).rglob(pattern) if path.is_file())


def _export(root: Path) -> None:
    # Ports and places that this process was started with must not reach the build.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("REFLEX_", "__REFLEX_"))}
    env |= {"REFLEX_CHECK_LATEST_VERSION": "false", "REFLEX_DIR": str(root / ".web" / "reflex"), "PORT": "3000"}
    command = [sys.executable, "-m", "reflex", "export", "--frontend-only", "--no-zip"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise BuildFailed("The page could not be built:\n" + "\n".join(said[-30:]))


def _tidy(builds: Path) -> None:
    made = sorted(builds.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in made[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _laid_out_as_before(file: Path) -> Iterator[None]:
    """Reflex writes this file anew each time, not always in the same layout: one that says the same stays as it was.
    Else the next start would take it for a change, and git for an edit."""
    before = file.read_bytes() if file.exists() else b""
    yield
    if before and json.loads(file.read_bytes()) == json.loads(before):
        file.write_bytes(before)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
