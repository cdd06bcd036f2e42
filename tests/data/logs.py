"""What tests of the generation log share: words to write, and reading a log as a viewer does."""

import asyncio
import random
from contextlib import aclosing

from chat_app.data.log.base import GenerationLog

WORDS = ["a", "é", "🎉", "\x00", "\n\n", "日本", "e\u0301", " ", "👩‍👩‍👧", "word ", "\u2028", "]]>", '"\\']


async def watch(log: GenerationLog, generation: str, offset: int = 0, *, pause: float = 0.0) -> tuple[str, str, int]:
    """Tail to the end; returns the text, the final status and the number of pieces. Checks that no offset is wrong."""
    seen, pieces = "", 0
    async with aclosing(log.tail(generation, offset)) as tail:
        async for piece in tail:
            assert piece.offset == offset + len(seen)
            seen += piece.text
            pieces += 1
            if piece.end is not None:
                return seen, piece.end, pieces
            await asyncio.sleep(pause)
    raise AssertionError("the tail ended without an end")


async def write(log: GenerationLog, generation: str, fence: int, words: list[str], before: str = "") -> str:
    text = before
    for word in words:
        await log.append(generation, fence, len(text), word)
        text += word
    return text


def some_words(count: int, seed: int = 0) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)
