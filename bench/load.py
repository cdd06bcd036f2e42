"""A bounded load of streamed chat completions, over one lean client for both sides of a comparison.

It believes the server's own count of tokens, and takes the first text, not the first byte, for the first token.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Target:
    """A server that speaks the OpenAI shape, and the key it wants."""

    name: str
    url: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer as its client saw it; times in seconds from sending the request, tokens as the server's usage has
    them."""

    ttft: float
    total: float
    tokens: int
    text: str
    prompt_tokens: int
    cached_tokens: int


def client() -> aiohttp.ClientSession:
    """A session with room for as many streams as anybody asks for, each on a connection of its own: llama.cpp's
    server closes those it has answered on, and whoever reuses one may find it broken."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))


def conversation(question: str) -> Messages:
    # With a system prompt of its own the product adds none: both sides read the same prompt.
    return [
        {"role": "system", "content": "Answer clearly and briefly."},
        {"role": "user", "content": question},
    ]


async def events(
    session: aiohttp.ClientSession,
    target: Target,
    messages: Messages,
    tokens: int,
    temperature: float = 0.0,
    user: str = "",
) -> AsyncGenerator[dict[str, Any], None]:
    """The events of one answer as they come. Cancelling whoever waits for them closes the connection."""
    body = {
        "model": target.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": 1,
    }
    if user:
        body["user"] = user
    rest = b""
    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    async with session.post(f"{target.url}/v1/chat/completions", data=orjson.dumps(body), headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{target.name}: {response.status} {await response.text()}")
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    yield orjson.loads(line[6:])


def text_in(event: dict[str, Any]) -> str:
    return "".join((choice.get("delta") or {}).get("content") or "" for choice in event.get("choices") or ())


async def stream(
    session: aiohttp.ClientSession,
    target: Target,
    question: str | Messages,
    tokens: int,
    temperature: float = 0.0,
    user: str = "",
) -> Stream:
    """Ask once and read to the end."""
    messages = conversation(question) if isinstance(question, str) else question
    usage: dict[str, Any] = {}
    texts: list[str] = []
    began, first = time.perf_counter(), 0.0
    async with aclosing(events(session, target, messages, tokens, temperature, user)) as coming:
        async for event in coming:
            usage = event.get("usage") or usage
            if text := text_in(event):
                first = first or time.perf_counter() - began
                texts.append(text)
    total = time.perf_counter() - began
    if not first:
        raise RuntimeError(f"{target.name}: an answer without any text")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    counted, prompt = usage.get("completion_tokens", 0), usage.get("prompt_tokens", 0)
    return Stream(first, total, counted, "".join(texts), prompt, cached)


async def throughput(target: Target, questions: Sequence[str], tokens: int) -> float:
    """Tokens per second of all the streams together, asked at the same moment."""
    async with client() as session:
        began = time.perf_counter()
        done = await asyncio.gather(*(stream(session, target, question, tokens) for question in questions))
        return sum(one.tokens for one in done) / (time.perf_counter() - began)
