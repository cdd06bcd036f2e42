"""The server for vectors: opened when wanted, and by nobody once its model was unloaded. No process is started."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.engines.llama_embedder import LlamaEmbedder
from inference.protocol import EngineDied, EngineError


class Host:
    """Answers with the same vector to all, when it is let."""

    def __init__(self) -> None:
        self.is_open = False
        self.opened = 0
        self.let = asyncio.Event()

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(0)
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        await self.let.wait()
        if not self.is_open:
            raise EngineDied("broke off")
        return {"data": [{"embedding": [3.0, 4.0]}]}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr("inference.engines.llama_embedder.LlamaHost", lambda order: made)
    return made


async def test_vectors_have_the_length_one(host: Host) -> None:
    host.let.set()
    made = await LlamaEmbedder("m", Path("m.gguf"), 0).embed([[1, 2], [3] * 300])
    assert made.vectors == (pytest.approx((0.6, 0.8)), pytest.approx((0.6, 0.8)))
    assert (made.tokens, host.opened) == (302, 1)


async def test_who_waits_while_the_model_is_unloaded_opens_nothing(host: Host) -> None:
    embedder = LlamaEmbedder("m", Path("m.gguf"), 0)
    asked = [asyncio.create_task(embedder.embed([[1]])) for _ in range(3)]
    await asyncio.sleep(0.01)
    await embedder.close()
    host.let.set()
    assert {type(error) for error in await asyncio.gather(*asked, return_exceptions=True)} == {EngineDied}
    assert (host.opened, host.is_open) == (1, False)


async def test_what_is_opened_while_the_model_is_unloaded_is_closed_again(host: Host) -> None:
    embedder = LlamaEmbedder("m", Path("m.gguf"), 0)
    asked = asyncio.create_task(embedder.embed([[1]]))
    while not host.opened:
        await asyncio.sleep(0)
    await embedder.close()
    with pytest.raises(EngineDied, match="unloaded"):
        await asked
    assert not host.is_open
    host.let.set()
    assert await embedder.embed([[1]])


async def test_a_process_that_cannot_be_had_is_reported_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    embedder = LlamaEmbedder("m", tmp_path / "m.gguf", 0)
    with pytest.raises(EngineError, match="cannot be started"):
        await embedder.embed([[1]])
