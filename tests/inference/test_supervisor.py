"""The supervisor: one engine per home, back at once when it dies, gone when its holder is."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from inference.client import InferenceClient
from inference.protocol import EngineDied
from inference.supervisor import Supervisor
from tests.inference.conftest import Slow, StartService, collect, request, script, text_of

Supervise = Callable[..., Awaitable[Supervisor]]


@pytest.fixture
async def supervise(tmp_path: Path) -> AsyncIterator[Supervise]:
    async with AsyncExitStack() as stack:

        async def start(engine: str = "scripted", model: str = "scripted", ready: bool = True) -> Supervisor:
            made = Supervisor(tmp_path / "home", engine, model)
            await made.start()
            stack.push_async_callback(made.close)
            if ready:
                await made.ready(30)
            return made

        yield start


def alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")


async def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_a_killed_engine_is_back_and_the_answer_goes_on(supervise: Supervise) -> None:
    supervisor = await supervise()
    client = InferenceClient(supervisor.address, supervisor.key)
    question = script(tokens=100, rate=200, seed=5)
    got = []
    first = supervisor.pid
    with pytest.raises(EngineDied):
        async for chunk in client.stream(request(question, max_tokens=200)):
            got.append(chunk)
            if len(text_of(got)) > 100 and alive(first):
                assert first is not None
                os.kill(first, signal.SIGKILL)
    await wait_until(lambda: supervisor.state != "ready")
    assert supervisor.error == "The engine stopped (signal 9) and is being restarted."
    assert await wait_until(lambda: supervisor.state == "ready") < 5
    assert supervisor.pid != first
    rest = await collect(client, request(question, max_tokens=200, continue_from=text_of(got)))
    whole = await collect(client, request(question, max_tokens=200))
    assert text_of(got) + text_of(rest) == text_of(whole)
    await client.close()


async def test_one_engine_for_all_who_share_a_home(supervise: Supervise) -> None:
    first, second = await supervise(), await supervise()
    assert (first.pid, first.address(), first.key) == (second.pid, second.address(), second.key)
    pid = first.pid
    await first.close()
    assert not alive(pid)
    await wait_until(lambda: second.state == "ready" and second.pid != pid)
    client = InferenceClient(second.address, second.key)
    assert await client.health()
    await client.close()


async def test_the_engine_does_not_outlive_its_holder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import asyncio, sys; from pathlib import Path; from inference.supervisor import Supervisor\n"
        "async def main():\n"
        f"    s = Supervisor(Path({str(home)!r}), 'scripted', 'scripted')\n"
        "    await s.start(); await s.ready(30); print(s.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    pid = int(await asyncio.to_thread(holder.stdout.readline))
    assert alive(pid)
    other = Supervisor(home, "scripted", "scripted")
    await other.start()
    await other.ready(10)
    assert other.pid == pid
    holder.kill()
    holder.wait()
    assert await wait_until(lambda: not alive(pid)) < 2
    await wait_until(lambda: other.state == "ready" and other.pid != pid)
    await other.close()


async def test_what_went_wrong_is_reported_in_plain_words(supervise: Supervise) -> None:
    supervisor = await supervise("llama_cpp", "no-such-model", ready=False)
    await wait_until(lambda: bool(supervisor.error), 30)
    assert supervisor.error.startswith("The engine stopped: there is no model 'no-such-model'")
    assert supervisor.error.endswith(".")
    assert (supervisor.state, supervisor.address()) == ("restarting", "")


async def test_a_hung_engine_is_replaced(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.supervisor.CHECK_S", 0.2)
    supervisor = await supervise()
    pid = supervisor.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await wait_until(lambda: supervisor.state == "ready" and supervisor.pid != pid, 20)
    assert not alive(pid)


async def test_an_engine_whose_model_is_loaded_anew_is_left_alone(
    tmp_path: Path, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.supervisor.CHECK_S", 0.02)
    supervisor, engine = Supervisor(tmp_path), Slow()
    models, supervisor._url = await start_service(key=supervisor.key, load=False, engine=engine)
    loading = asyncio.create_task(models.load(""))
    ended = asyncio.create_task(asyncio.sleep(60, 0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await supervisor._watch(ended)
    assert not loading.done()
    supervisor._url = "http://127.0.0.1:9"
    async with asyncio.timeout(5):
        await supervisor._watch(ended)
    assert supervisor.error == "The engine no longer answers and is being restarted."
    engine.let.set()
    await loading
    ended.cancel()


async def test_closing_ends_the_engine_and_leaves_no_address(supervise: Supervise, tmp_path: Path) -> None:
    supervisor = await supervise()
    pid = supervisor.pid
    await supervisor.close()
    assert not alive(pid)
    assert not (tmp_path / "home" / "inference.json").exists()
    assert (tmp_path / "home" / "inference.key").stat().st_mode & 0o777 == 0o600
    assert "ready at" in (tmp_path / "home" / "logs" / "inference.log").read_text()
