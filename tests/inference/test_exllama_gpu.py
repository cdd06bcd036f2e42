"""The exllama engine on a real GPU: what no double can show. Skipped, with the reason, where there is none.

`PARLEY_GPU_MODEL` names the directory of an EXL2, GPTQ or FP16 chat model, `PARLEY_GPU_DRAFT` that of a smaller one of
the same vocabulary. With the first, `test_conformance` and `test_cancel` also run for it (`conftest.SUBJECTS`).
"""

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from inference.engines.exllama.engine import ExLlamaEngine
from inference.engines.exllama.options import Options
from inference.protocol import Chunk, EngineDied, Message, Request, Sampling
from tests.inference.conftest import STORY, no_gpu, request, text_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(no_gpu()), reason=no_gpu())]

MODEL = os.environ.get("PARLEY_GPU_MODEL", "")
DRAFT = os.environ.get("PARLEY_GPU_DRAFT", "")

StartEngine = Callable[..., Awaitable[ExLlamaEngine]]


@pytest.fixture
async def start() -> AsyncIterator[StartEngine]:
    async with AsyncExitStack() as stack:

        async def made(**options: Any) -> ExLlamaEngine:
            engine = ExLlamaEngine(Options(**{"folder": MODEL, "kv_tokens": 8192, **options}))
            stack.push_async_callback(engine.unload)
            await engine.load()
            return engine

        yield made


async def answer(engine: ExLlamaEngine, text: str, **sampling: Any) -> list[Chunk]:
    return [chunk async for chunk in engine.stream(request(text, engine.capabilities.model, **sampling))]


@pytest.mark.parametrize("cache", ["fp16", "q8", "q6", "q4"])
async def test_every_kind_of_cache_answers(start: StartEngine, cache: str) -> None:
    engine = await start(cache=cache)
    chunks = await answer(engine, "What is the capital of France?", max_tokens=24)
    assert "Paris" in text_of(chunks)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == sum(chunk.tokens for chunk in chunks) <= 24


async def test_drafts_change_the_speed_and_not_the_answer(start: StartEngine) -> None:
    plain = await start()
    expected = text_of(await answer(plain, "Count from one to twenty.", max_tokens=60))
    await plain.unload()
    for options in ({"ngram": True}, {"draft": DRAFT}) if DRAFT else ({"ngram": True},):
        engine = await start(**options)
        chunks = await answer(engine, "Count from one to twenty.", max_tokens=60)
        # Batches of other sizes round otherwise, so only the beginning must be the same.
        assert text_of(chunks)[:40] == expected[:40]
        assert chunks[-1].finish == "stop" or sum(chunk.tokens for chunk in chunks) == 60
        await engine.unload()


async def test_a_second_turn_reads_only_what_is_new(start: StartEngine) -> None:
    engine = await start()
    first = "Here is a list of words: " + " ".join(f"word{n}" for n in range(600))
    said = text_of(await answer(engine, first, max_tokens=8))
    messages = (Message("user", first), Message("assistant", said), Message("user", "Thank you."))
    chunks = [chunk async for chunk in engine.stream(Request("", messages, Sampling(4, 0.0)))]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.cached_tokens > 0.7 * usage.prompt_tokens


async def test_log_probabilities_are_probabilities(start: StartEngine) -> None:
    engine = await start()
    chunks = await answer(engine, "Say yes or no.", max_tokens=8, logprobs=5)
    picked = [one for chunk in chunks for one in chunk.logprobs]
    assert picked
    for one in picked:
        assert sum(math.exp(other.logprob) for other in one.top) <= 1.001
        assert one.top[0].token == one.chosen.token
    assert any(one.chosen.logprob < -0.001 for one in picked)


async def test_an_answer_fits_its_schema(start: StartEngine) -> None:
    engine = await start()
    if "json_schema" not in engine.capabilities.abilities:
        pytest.skip("lm-format-enforcer is not installed")
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "rivers": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["city", "rivers"],
    }
    asked = "Name the capital of France and its rivers."
    made = json.loads(text_of(await answer(engine, asked, max_tokens=200, json_schema=json.dumps(schema))))
    assert isinstance(made["city"], str)


async def test_a_stop_frees_the_slot_within_a_step_or_a_chunk(start: StartEngine) -> None:
    engine = await start()
    for question in (STORY, "word " * 5_000):
        stream = engine.stream(request(question, max_tokens=400))
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.wait({coming}, timeout=0.3)
        began = time.monotonic()
        coming.cancel()
        await asyncio.wait({coming})
        await stream.aclose()
        assert time.monotonic() - began < 1.5


async def test_a_killed_host_is_back(start: StartEngine) -> None:
    engine = await start()
    stream = engine.stream(request(STORY, max_tokens=400))
    await anext(stream)
    os.kill(engine.pid, 9)
    with pytest.raises(EngineDied):
        async for _ in stream:
            pass
    async with asyncio.timeout(120):
        while not await engine.health():
            await asyncio.sleep(0.2)
    assert text_of(await answer(engine, "Hello", max_tokens=8))
