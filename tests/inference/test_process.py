"""`python -m inference` as a process: how it starts, what it says when it cannot, how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference import catalog
from inference.__main__ import main
from inference.client import InferenceClient
from inference.protocol import EngineDied
from tests.inference.conftest import KEY, collect, request, script, spawn, text_of


def refused(monkeypatch: pytest.MonkeyPatch, *flags: str) -> str:
    """What it says when it does not start; tried in this process, which is quicker than a new one."""
    monkeypatch.setattr(sys, "argv", ["inference", *flags])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, str)
    return caught.value.code


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} at 127.0.0.1 is taken" in refused(monkeypatch, "--engine", "scripted", "--port", port)


def test_no_key_and_an_open_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARLEY_INFERENCE_KEY", raising=False)
    assert "without a key" in refused(monkeypatch, "--engine", "scripted", "--host", "0.0.0.0")
    assert "cannot read the key" in refused(monkeypatch, "--engine", "scripted", "--key-file", "/nonexistent/key")


def test_models_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no model 'gpt-9'" in refused(monkeypatch, "--model", "gpt-9")
    missing = refused(monkeypatch, "--model", "qwen2.5-coder-1.5b-instruct", "--home", str(tmp_path))
    assert "should be in" in missing
    bundled, path = catalog.find("smollm2-135m-instruct", tmp_path)
    cut = tmp_path / bundled.file
    with path.open("rb") as whole:
        cut.write_bytes(whole.read(3_000_000))
    assert "is damaged" in refused(monkeypatch, "--model", str(cut))


@pytest.mark.model
def test_a_damaged_model_that_nobody_pinned(tmp_path: Path) -> None:
    _, path = catalog.find("smollm2-135m-instruct", tmp_path)
    cut = tmp_path / "unknown.gguf"
    with path.open("rb") as whole:
        cut.write_bytes(whole.read(3_000_000))
    command = [sys.executable, "-m", "inference", "--model", str(cut)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot load" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("how", ["parent", "sigterm"])
async def test_it_ends_in_mid_stream_when_told(tmp_path: Path, how: str) -> None:
    process, url = spawn(tmp_path, "--engine", "scripted")
    client = InferenceClient(url, KEY)
    stream = client.stream(request(script(tokens=1000, rate=50), max_tokens=1000))
    await anext(stream)
    if how == "parent":
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    with pytest.raises(EngineDied):
        async for _ in stream:
            pass
    assert process.wait(5) == 0
    assert time.monotonic() - began < 3
    await client.close()


def test_it_ends_when_told_though_its_model_is_still_being_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as free:
        there, port = silent.getsockname()[1], free.getsockname()[1]
        free.close()
        flags = ["--engine", "remote", "--url", f"http://127.0.0.1:{there}", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "inference", *flags], env={**os.environ, "PARLEY_REMOTE_KEY": ""}
        )
        silent.settimeout(30)
        with silent.accept()[0]:  # Now it loads, and waits for an answer.
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 0


async def test_a_scripted_death_is_a_death(tmp_path: Path) -> None:
    process, url = spawn(tmp_path, "--engine", "scripted")
    client = InferenceClient(url, KEY)
    got = []
    with pytest.raises(EngineDied):
        async for chunk in client.stream(request(script(tokens=60, rate=500, die_at=20))):
            got.append(chunk)
    assert sum(chunk.tokens for chunk in got) == 20
    assert process.wait(5) == -signal.SIGKILL
    await client.close()
    (tmp_path / "address.json").unlink()
    process, url = spawn(tmp_path, "--engine", "scripted")
    client = InferenceClient(url, KEY)
    rest = await collect(client, request(script(tokens=60, die_at=20), continue_from=text_of(got)))
    assert sum(chunk.tokens for chunk in rest) == 40
    await client.close()
    process.kill()
    process.wait()
