"""llama.cpp models as the service hosts them: real files, real processes, real deaths."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from inference import catalog
from inference.client import InferenceClient
from inference.continuation import SteadyClient
from inference.engines.llama_cpp import LlamaCppEngine
from inference.protocol import BadRequest, Damaged, EngineError, Message, Request, Sampling, TooLittleMemory
from tests.inference.conftest import KEY, SMOLLM, STORY, collect, request, spawn, text_of

pytestmark = pytest.mark.model
GROWS = "{% for n in range(100000000000) %}{% if n < 0 %}x{% endif %}{% endfor %}"
PROMPT = "You are a helpful AI assistant. " + "Answer in plain words, and say so when you do not know. " * 6
LOOPS = "{% for n in range(100000) %}{% for m in range(100000) %}{% if m < 0 %}x{% endif %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the bundled model, a second one of it, and some that cannot be loaded."""
    home = tmp_path_factory.mktemp("house")
    _, bundled = catalog.find(SMOLLM, home)
    shutil.copy(bundled, home / "cut.gguf")
    os.truncate(home / "cut.gguf", 40_000_000)
    (home / "broken.jinja").write_text("{% for message in messages %}")
    (home / "models.toml").write_text(
        f"""
        [[model]]
        id = "second"
        file = "{bundled}"
        kv_tokens = 2048

        [[model]]
        id = "cut"
        file = "cut.gguf"

        [[model]]
        id = "wrong"
        file = "{bundled}"
        sha256 = "{"0" * 64}"

        [[model]]
        id = "huge"
        file = "{bundled}"
        kv_tokens = 2000000000

        [[model]]
        id = "broken"
        file = "{bundled}"
        template = "broken.jinja"
        kv_tokens = 2048

        [[model]]
        id = "gone"
        file = "{bundled}"
        template = "none.jinja"
        """
    )
    process, url = spawn(home, "--home", str(home))
    yield url
    process.kill()
    process.wait()


async def status(url: str, model: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http:
        status = await (await http.get(f"{url}/status")).json()
        return next(one for one in status["models"] if one["model"] == model)


async def test_what_cannot_be_loaded_says_why_and_harms_nobody(house: str) -> None:
    client = InferenceClient(house, KEY)
    going_on = asyncio.create_task(collect(client, request(STORY, SMOLLM, max_tokens=150)))
    for model, kind, says in (
        ("cut", EngineError, "cannot load"),
        ("wrong", Damaged, "it should be 000000"),
        ("huge", TooLittleMemory, "takes about 46"),
        ("broken", EngineError, "template|cannot load"),
        ("gone", EngineError, "cannot read the chat template"),
    ):
        with pytest.raises(kind, match=says):
            await collect(client, request("Hi", model))
        assert (await status(house, model))["state"] == "failed"
    assert (await going_on)[-1].finish is not None
    assert (await status(house, SMOLLM))["restarts"] == 0
    await client.close()


async def test_two_models_answer_side_by_side_each_with_its_window(house: str) -> None:
    client = InferenceClient(house, KEY)
    answers = await asyncio.gather(*(collect(client, request("Hi", one, max_tokens=8)) for one in (SMOLLM, "second")))
    assert all(text_of(answer) for answer in answers)
    windows = {card.id: card.context for card in await client.models()}
    assert (windows[SMOLLM], windows["second"]) == (8192, 2048)
    await client.close()


async def test_a_process_that_is_killed_is_brought_back_and_the_answer_goes_on(tmp_path: Path) -> None:
    process, url = spawn(tmp_path, "--kv-tokens", "2048")
    steady = SteadyClient(client := InferenceClient(url, KEY))
    (model,) = children(process.pid)
    text, killed = "", False
    async for chunk in steady.stream(request(STORY, SMOLLM, max_tokens=120)):
        text += chunk.text
        if not killed and len(text) > 60:
            os.kill(model, signal.SIGKILL)
            killed = True
    assert killed
    assert chunk.usage is not None
    assert chunk.finish == "stop" or chunk.usage.completion_tokens == 120
    assert (await status(url, SMOLLM))["restarts"] == 1
    (model,) = children(process.pid)
    process.kill()  # Its parent.
    process.wait()
    async with asyncio.timeout(5):
        while Path(f"/proc/{model}").exists():
            await asyncio.sleep(0.02)
    await client.close()


async def test_whoever_begins_a_conversation_waits_only_for_their_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_SYSTEM_PROMPT", PROMPT)
    flags = ("--home", str(tmp_path), "--slots", "4", "--kv-tokens", "2048")
    sizes = set()
    for damaged in (False, False, True):
        for file in tmp_path.glob("prefixes/*/*"):
            sizes.add(file.stat().st_size)
            if damaged:
                os.truncate(file, 1000)
        process, url = spawn(tmp_path, *flags)
        client = InferenceClient(url, KEY)
        asked = [
            Request(SMOLLM, (Message("system", PROMPT), Message("user", f"Say {n}.")), Sampling(4, 0.0))
            for n in range(4)
        ]
        for chunks in await asyncio.gather(*(collect(client, one) for one in asked)):
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.cached_tokens > 50
        await client.close()
        process.kill()
        process.wait()
        (tmp_path / "address.json").unlink()
    assert len(sizes) == 1


async def test_conversations_beyond_what_the_cache_holds_push_out_those_that_are_idle(tmp_path: Path) -> None:
    process, url = spawn(tmp_path, "--kv-tokens", "512", "--slots", "4")
    client = InferenceClient(url, KEY)
    for round in range(3):
        texts = [f"Number {round}{n}: " + f"word{n} " * 60 for n in range(3)]
        for chunks in await asyncio.gather(*(collect(client, request(text, SMOLLM, max_tokens=6)) for text in texts)):
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.prompt_tokens > 120
    assert (await status(url, SMOLLM))["completed"] == 9
    await client.close()
    process.kill()
    process.wait()


def children(pid: int) -> list[int]:
    found = (file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for part in found for child in part]


@pytest.mark.parametrize("template", [LOOPS, GROWS])
async def test_a_template_that_loops_is_found_while_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr("inference.engines.llama_host.LOAD_S", 4.0)
    _, path = catalog.find(SMOLLM, tmp_path)
    engine = LlamaCppEngine("m", path, 512, 1, 512, 1, template=template)
    with pytest.raises(EngineError, match=r"endless|cannot load"):
        await engine.load()
    assert not await engine.health()


async def test_a_template_that_loops_with_some_conversation_only_refuses_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.engines.llama_cpp.TEMPLATE_S", 1.0)
    _, path = catalog.find(SMOLLM, tmp_path)
    template = "{% for m in messages %}{% if m.content == 'loop' %}" + LOOPS + "{% endif %}{{ m.content }}{% endfor %}"
    engine = LlamaCppEngine("m", path, 512, 2, 512, 1, template=template)
    await engine.load()
    asked = request("Say something.", max_tokens=40)
    others = engine.stream(asked)
    running = asyncio.create_task(anext(others))
    with pytest.raises(BadRequest, match="does not end"):
        await engine.prompt([Message("user", "loop")])
    assert (await running).text
    await others.aclose()
    assert await engine.health()
    assert [chunk async for chunk in engine.stream(asked)][-1].finish
    await engine.unload()


async def test_an_engine_that_is_unloaded_leaves_nothing_behind(tmp_path: Path) -> None:
    _, path = catalog.find(SMOLLM, tmp_path)
    engine = LlamaCppEngine("m", path, 512, 1, 512, 1)
    await engine.load()
    assert await engine.prompt([Message("user", "Hi")])
    assert await engine.health()
    await engine.unload()
    assert not await engine.health()
