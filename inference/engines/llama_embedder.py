"""Vectors of texts, by a second llama.cpp server on the same model, opened when the first text comes.

The server that answers could make them too, but only while nothing is being answered (it never batches the two
together), so on a busy service they would wait for ever. The second one shares the model's file in memory and
takes some 130 MB of its own for SmolLM2. One text at a time, on one thread, beside the answers.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

from inference.engines.llama_host import LlamaHost
from inference.engines.llama_process import Order
from inference.protocol import Embeddings, EngineDied, EngineError

PIECE = 256
"""Tokens that are read as one. A longer text is the mean of its pieces, each counting by its length."""


class LlamaEmbedder:
    """`path` is the model's GGUF file, `memory` as in `Order`."""

    def __init__(self, model: str, path: Path, memory: int) -> None:
        # A mean wants all of a text in one batch.
        order = Order(str(path), model, memory, slots=1, kv_tokens=PIECE, batch=PIECE, threads=1, embeds=True)
        self._host = LlamaHost(order)
        self._turn = asyncio.Lock()
        self._closings = 0

    async def embed(self, texts: Sequence[Sequence[int]]) -> Embeddings:
        """A vector of length 1 for each text, which is its tokens: the mean of what the model makes of them.

        Raises `EngineDied` if it is closed meanwhile; nobody would close what is opened after that.
        """
        vectors, closings = [], self._closings
        for text in texts:
            # One turn for each text, so that a long list does not hold up a short one.
            async with self._turn:
                if closings == self._closings and not self._host.is_open:
                    await self._host.open()
                if closings != self._closings:
                    await self._host.close()
                    raise EngineDied("the model was unloaded")
                vectors.append(await self._vector(text))
        return Embeddings(tuple(vectors), sum(map(len, texts)))

    async def close(self) -> None:
        self._closings += 1
        await self._host.close()

    async def _vector(self, text: Sequence[int]) -> tuple[float, ...]:
        total: list[float] = []
        for start in range(0, len(text), PIECE):
            piece = list(text[start : start + PIECE])
            answer = await self._host.call("POST", "/v1/embeddings", {"input": piece})
            try:
                vector = [len(piece) * float(value) for value in answer["data"][0]["embedding"]]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise EngineError("llama.cpp did not answer with a vector") from error
            total = [a + b for a, b in zip(total, vector, strict=True)] if total else vector
        length = math.sqrt(sum(value * value for value in total)) or 1.0
        return tuple(value / length for value in total)
