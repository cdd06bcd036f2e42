"""`python -m ops_dashboard` serves the dashboard, on this machine only, and phones nobody."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from ops_dashboard.__main__ import FLAGS
from tests.servers import free_port

ROOT = Path(__file__).parents[2]


def test_it_serves_on_loopback(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops_dashboard", "--server.port", str(port)], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.read() == b"ok"
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(20)
    assert f"http://127.0.0.1:{port}" in (tmp_path / "log").read_text()


def test_flags() -> None:
    chosen = dict(zip(FLAGS[::2], FLAGS[1::2], strict=True))
    assert chosen["--server.address"] == "127.0.0.1" and chosen["--server.port"] == "8501"
    assert chosen["--browser.gatherUsageStats"] == "false" and chosen["--server.headless"] == "true"
