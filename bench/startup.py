"""From nothing: how long set-up takes and what it weighs, then how long a start takes and what an idle app holds.

The committed tree is cloned into an empty directory with an empty HOME, and `make setup` runs there as a newcomer would
run it (package registries are the only network). Needs a git checkout; package caches of this machine are not used.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from bench.browser import Browser
from bench.report import Row
from tests.app import ROOT, RunningApp

PEER = "Open WebUI 0.12.4 on such a machine"


def _disk(*paths: Path) -> float:
    """Megabytes on disk, as `du` counts them."""
    there = [str(path) for path in paths if path.exists()]
    out = subprocess.run(["du", "-scm", *there], capture_output=True, text=True, check=True).stdout
    return float(out.splitlines()[-1].split()[0])


def from_nothing() -> tuple[list[Row], dict[str, float]]:
    """`make setup` in a fresh clone: seconds and megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder) / "parley", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "VIRTUAL_ENV", "XDG_"))
        }
        env = {**kept, "HOME": str(home), "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}
        # A pyenv shim looks for its versions under HOME.
        env.setdefault("PYENV_ROOT", str(Path(os.environ.get("HOME", "/")) / ".pyenv"))
        began = time.perf_counter()
        done = subprocess.run(["make", "setup"], cwd=clone, env=env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"make setup failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        megabytes = _disk(clone, home)
    rows = [
        ("set-up from nothing", f"{seconds:.0f} s", f"157 s, {PEER}"),
        ("on disk after it", f"{megabytes:.0f} MB", "2,900 MB"),
    ]
    return rows, {"cold_start_s": seconds, "disk_mb": megabytes}


async def start(browser: Browser, home: Path) -> tuple[list[Row], dict[str, float]]:
    """A set-up tree: from starting the process to a page one can type into, memory when idle, first real token."""
    with RunningApp(home / "warm"):
        pass  # Whatever a first start leaves behind (build, database, verified model) is there now.
    app = RunningApp(home / "warm", env={"PARLEY_INFERENCE_ENGINE": "llama_cpp"})
    began = time.perf_counter()
    app.start()
    answering = time.perf_counter() - began
    try:
        cookie = app.sign_up("bench@example.org")
        page = await browser.page(app.url, cookie)
        await page.goto(app.url)
        await page.get_by_role("textbox").first.wait_for()
        usable = time.perf_counter() - began
        ttft = await browser.first_token(page, "Say hello in five words.")
        to_token = time.perf_counter() - began
        await page.close()
        time.sleep(5)
        idle = app.idle_memory() / 1e6
    finally:
        app.stop()
    rows = [
        ("start to a usable page", f"{usable:.1f} s (server answers after {answering:.1f} s)", "18-19 s"),
        (
            "start to the first token of SmolLM2 in the browser",
            f"{to_token:.1f} s = {answering:.1f} s server + {usable - answering:.1f} s account and page"
            f" + {to_token - usable:.1f} s turn (of which {ttft / 1000:.2f} s from Enter to the token)",
            "",
        ),
        ("memory of the app when idle, engine apart", f"{idle:.0f} MB", "793 MB"),
    ]
    return rows, {"start_s": usable, "app_idle_mb": idle, "first_token_from_start_s": to_token}
