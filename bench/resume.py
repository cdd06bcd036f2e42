"""An answer whose inference process is killed in its midst: the longest silence its reader sees.

The process is killed with SIGKILL and started anew at once, as the supervisor does; its start is part of the silence.
The engine is the scripted one, so the text can be checked to the letter; a real model would have to be loaded and to
read the conversation again, which is not in here.
"""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

from bench.bounds import INFERENCE
from bench.report import Row, p50
from inference.client import InferenceClient
from inference.continuation import SteadyClient
from inference.protocol import Message, Request, Sampling
from tests.parley import EngineProcess, expected, script

TIMES = 4
TOKENS = 120
RATE = 40
KILL_AT = 40  # Tokens that were read when the process dies.


async def measure(folder: Path) -> tuple[list[Row], dict[str, float]]:
    gaps = [await _gap(folder, seed) for seed in range(TIMES)]
    shown = f"{max(gaps):.2f} s (p50 {p50(gaps):.2f} s, {TIMES} times)"
    row = ("longest silence in an answer whose engine is killed -9", shown, str(INFERENCE["resume_s"]))
    return [row], {"resume_s": max(gaps)}


async def _gap(folder: Path, seed: int) -> float:
    engine = EngineProcess(folder, "scripted")
    address = await asyncio.to_thread(engine.start)

    async def restart() -> None:
        nonlocal address
        engine.kill()
        address = ""
        address = await asyncio.to_thread(engine.start)

    client = InferenceClient(lambda: address, "engine-key")
    question = script(tokens=TOKENS, rate=RATE, seed=seed)
    request = Request("scripted", (Message("user", question),), Sampling(TOKENS))
    text, tokens, longest = "", 0, 0.0
    restarting: asyncio.Task[None] | None = None
    try:
        async with aclosing(SteadyClient(client).stream(request)) as chunks:
            last = time.monotonic()
            async for chunk in chunks:
                now = time.monotonic()
                # The first wait is for the answer to begin, which nothing has interrupted yet.
                longest = max(longest, now - last) if tokens else 0.0
                last, text, tokens = now, text + chunk.text, tokens + chunk.tokens
                if restarting is None and tokens >= KILL_AT:
                    restarting = asyncio.create_task(restart())
        if restarting is None or text != expected(question) or tokens != TOKENS:
            raise RuntimeError(f"the answer did not survive its engine: {tokens} tokens, {text!r}")
        await restarting
        return longest
    finally:
        await client.close()
        engine.kill()
