"""A bounded load of streamed chat completions, over one lean client for both sides of a comparison."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson


@dataclass(frozen=True, slots=True)
class Target:
    """A server that speaks the OpenAI shape, and the key it wants."""

    name: str
    url: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer as its client saw it; times in seconds from sending the request."""

    ttft: float
    total: float
    tokens: int


async def stream(
    session: aiohttp.ClientSession, target: Target, question: str, tokens: int, temperature: float = 0.0
) -> Stream:
    """Ask once and read to the end. `tokens` is what the server's usage says."""
    body = {
        "model": target.model,
        # With a system prompt of its own the product adds none: both sides read the same prompt.
        "messages": [
            {"role": "system", "content": "Answer clearly and briefly."},
            {"role": "user", "content": question},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": 1,
    }
    began = time.perf_counter()
    first, counted, rest = 0.0, 0, b""
    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    async with session.post(f"{target.url}/v1/chat/completions", data=orjson.dumps(body), headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{target.name}: {response.status} {await response.text()}")
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line.startswith(b"data: ") or line == b"data: [DONE]":
                    continue
                event = orjson.loads(line[6:])
                if usage := event.get("usage"):
                    counted = usage["completion_tokens"]
                if not first and any((c.get("delta") or {}).get("content") for c in event.get("choices") or ()):
                    first = time.perf_counter() - began
    return Stream(first, time.perf_counter() - began, counted)


async def throughput(target: Target, questions: Sequence[str], tokens: int) -> float:
    """Tokens per second of all the streams together, asked at the same moment."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        done = await asyncio.gather(*(stream(session, target, question, tokens) for question in questions))
        return sum(one.tokens for one in done) / (time.perf_counter() - began)
