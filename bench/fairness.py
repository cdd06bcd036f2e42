"""How slots are shared among users, on an engine of exact pace (`--engine scripted --slots 8`).

One user with 50 requests beside nine with one each: the nine's time to their first token over what it is without the
heavy user. Nine requests at eight slots, sent at once, are one too many in either case, so the p95 of both holds a wait
for a slot. All users have asked something tiny just before, since only from users who are about does the queue know
that it must keep slots free; who comes for the first time ever may wait for the heavy user's running requests.

Then nine equal users who always have three requests each: Jain's index of their tokens (1: all the same, 1/9: one has
everything).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import aiohttp

from bench.bounds import INFERENCE
from bench.load import Target, client, conversation, events, stream
from bench.report import Row, p50, p95
from tests.parley import expected, script

SLOTS = 8
LIGHT = [f"light-{n}" for n in range(9)]
REQUESTS = 50
ROUNDS = 3
HEAD_START_S = 0.5
PACE = {"rate": 40, "prefill_s": 0.2}
"""Of the scripted answers: seconds before the first token, then tokens a second."""
TOKENS = 40
IN_FLIGHT = 3
EQUAL_S = 12.0
EQUAL_TOKENS = 20


async def measure(service: Target) -> tuple[list[Row], dict[str, float]]:
    async with client() as session:
        alone: list[float] = []
        beside: list[float] = []
        for _ in range(ROUNDS):
            alone += await _nine(session, service, heavy=0)
            beside += await _nine(session, service, heavy=REQUESTS)
        tokens = await _equals(session, service)
    ratio, index = p95(beside) / p95(alone), jain(tokens)
    shown = (
        f"{ratio:.2f} ({p95(beside) * 1000:.0f} / {p95(alone) * 1000:.0f} ms; "
        f"p50 {p50(beside) * 1000:.0f} / {p50(alone) * 1000:.0f} ms)"
    )
    shares = f"{index:.4f} ({min(tokens) / EQUAL_S:.0f} to {max(tokens) / EQUAL_S:.0f} tokens/s each)"
    rows = [
        ("nine users' time to first token, p95, with / without a user of 50", shown, str(INFERENCE["fair_p95_ratio"])),
        ("Jain's index of nine equal users", shares, str(INFERENCE["jain"])),
    ]
    return rows, {"fair_p95_ratio": ratio, "jain": index}


def jain(shares: Sequence[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


async def _nine(session: aiohttp.ClientSession, service: Target, heavy: int) -> list[float]:
    """The nine's times to their first token."""
    question = script(tokens=TOKENS, **PACE)
    await asyncio.gather(*(stream(session, service, script(tokens=1), 1, user=user) for user in [*LIGHT, "heavy"]))
    crowd = [asyncio.create_task(_ask(session, service, question, "heavy")) for _ in range(heavy)]
    await asyncio.sleep(HEAD_START_S)
    seen = await asyncio.gather(*(_ask(session, service, question, user) for user in LIGHT))
    await asyncio.gather(*crowd)
    return list(seen)


async def _ask(session: aiohttp.ClientSession, service: Target, question: str, user: str) -> float:
    done = await stream(session, service, question, TOKENS, user=user)
    if done.text != expected(question):
        raise RuntimeError(f"not the text that the script says: {done.text!r}")
    return done.ttft


async def _equals(session: aiohttp.ClientSession, service: Target) -> list[int]:
    """Tokens of each user until time is up, those of answers that are cut off then included."""
    counted = dict.fromkeys(LIGHT, 0)
    question = conversation(script(tokens=EQUAL_TOKENS, **PACE))
    deadline = time.monotonic() + EQUAL_S

    async def keep_asking(user: str) -> None:
        while time.monotonic() < deadline:
            async with aclosing(events(session, service, question, EQUAL_TOKENS, user=user)) as coming:
                async for event in coming:
                    if time.monotonic() >= deadline:
                        return
                    counted[user] += event.get("tokens", 0)

    await asyncio.gather(*(keep_asking(user) for user in LIGHT for _ in range(IN_FLIGHT)))
    return list(counted.values())
