"""What tests of calls that are given up share: a body, ways to go away, and what became of the turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from chat_app.gateway.completions_route import PATH
from chat_app.telemetry.metrics import REGISTRY
from chat_app.turn.prepare import Preparation
from tests.gateway.served import Served
from tests.parley import script

SLOW = script(tokens=2_000, rate=50, seed=5)
QUICK = script(tokens=3, rate=0)


def body(question: str = QUICK, **fields: Any) -> bytes:
    return orjson.dumps({"model": "scripted", "messages": [{"role": "user", "content": question}], **fields})


async def leave(served: Served, data: bytes, *, after: float = 0.0, headers: str = "") -> None:
    """Send a request over a socket of our own and close it, without a word, `after` so many seconds."""
    split = urlsplit(served.url)
    _, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n{headers}"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


async def rows(served: Served) -> dict[str, str]:
    """Every generation and its status, once nothing runs any more."""
    async with asyncio.timeout(10):
        while True:
            found = await served.parley.db.query("SELECT id, status FROM generation")
            if served.parley.ownership.running == 0 and all(row["status"] not in ACTIVE for row in found):
                return {row["id"]: row["status"] for row in found}
            await asyncio.sleep(0.02)


ACTIVE = ("queued", "streaming")


@asynccontextmanager
async def held_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Turns wait in their preparation until the block ends; the event is set once one does."""
    choose, waits, go_on = Preparation.choose, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        waits.set()
        await go_on.wait()
        return await choose(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Preparation, "choose", slow)
        yield waits
        go_on.set()
        await asyncio.sleep(0.05)


def counted(status: int, method: str = "POST") -> float:
    labels = {"method": method, "route": PATH, "status": str(status)}
    return REGISTRY.get_sample_value("parley_http_requests_total", labels) or 0
