"""A stream of llama.cpp that is left before it began: its slot is waited for all the same. A double of the server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from inference.engines import llama_cpp
from inference.engines.llama_cpp import LlamaCppEngine
from tests.inference.conftest import request


class Server:
    """It reads a first batch for ever, and is at work for `busy` more looks after whoever asked has left."""

    def __init__(self, busy: int) -> None:
        self.busy = busy
        self.asked = asyncio.Event()

    async def send(self, method: str, path: str, body: Any) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        if path == "/slots":
            if self.busy < 0:
                await asyncio.Event().wait()
            self.busy -= 1
            return [{"is_processing": self.busy > 0}]
        return {"prompt": "Hi", "tokens": [1, 2]}


async def left(server: Server) -> None:
    """Ask, and leave while the first batch is read."""
    engine = LlamaCppEngine("m", Path("m.gguf"), 512, 1, 512, 1)
    engine._host = server  # type: ignore[assignment]
    waiting = asyncio.ensure_future(anext(engine.stream(request("Hi", "m"))))
    await server.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)


async def test_who_leaves_while_the_first_batch_is_read_frees_the_slot_before_it_returns() -> None:
    server = Server(busy=3)
    await left(server)
    assert server.busy == 0


async def test_a_server_that_says_nothing_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "SETTLE_S", 0.05)
    await left(Server(busy=-1))
