"""What the whole product adds to the bare inference process: tokens per second, and time to the first token.

Both sides share one inference process, so that the engine is the same; rounds alternate, so that a slow minute of the
machine hits both. The product's side is API, checks, window, hold, log, settlement and events.
"""

import aiohttp

from bench.bounds import TURN
from bench.load import Target, stream, throughput
from bench.report import Row, p50

ROUNDS = {1: 20, 4: 12, 8: 8}
"""Streams at a time, and how many rounds of each: one round of few streams is short, and so more at chance's mercy."""
TOKENS = 96
TOPICS = (
    "Explain how rain forms.",
    "Describe a quiet morning in a harbour town.",
    "What is a prime number, and why do they matter?",
    "Give advice to someone who learns to cook.",
    "Tell a short story about a lighthouse keeper.",
    "How does a bicycle stay upright?",
    "Describe the life of a honey bee.",
    "Why do leaves change their colour in autumn?",
)


async def measure(bare: Target, product: Target) -> tuple[list[Row], dict[str, float]]:
    """Alternating rounds; each ratio is the median of product over bare, round by round."""
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for target in (bare, product):
        await throughput(target, TOPICS[:2], 8)
    for streams, rounds in ROUNDS.items():
        speeds = []
        for at in range(rounds):
            order = (bare, product) if at % 2 == 0 else (product, bare)
            speed = {}
            for target in order:
                # Never the same question twice: whoever came second would find the prompt cached.
                questions = [f"{TOPICS[n]} (part {at}, {target.name[0]})" for n in range(streams)]
                speed[target.name] = await throughput(target, questions, TOKENS)
            speeds.append(speed)
        ratio = p50([speed[product.name] / speed[bare.name] for speed in speeds])
        key = f"throughput_ratio_{streams}"
        figures[key] = ratio
        shown = f"{p50([s[product.name] for s in speeds]):.0f} / {p50([s[bare.name] for s in speeds]):.0f} tokens/s"
        rows.append((f"tokens/s, {streams} stream(s), product / bare", f"{ratio:.3f} ({shown})", str(TURN[key])))
    added = await _added_ttft(bare, product, rounds=16)
    figures["added_ttft_ms_p50"] = added
    rows.append(("added time to first token, p50", f"{added:.1f} ms", str(TURN["added_ttft_ms_p50"])))
    return rows, figures


async def _added_ttft(bare: Target, product: Target, rounds: int) -> float:
    added = []
    async with aiohttp.ClientSession() as session:
        for at in range(rounds):
            order = (bare, product) if at % 2 == 0 else (product, bare)
            # The same question on both sides, warmed once: the prompt is cached for both, so the difference is ours.
            question = f"{TOPICS[at % len(TOPICS)]} (again {at})"
            for target in order:
                await stream(session, target, question, 2)
            seen = {target.name: (await stream(session, target, question, 4)).ttft for target in order}
            added.append((seen[product.name] - seen[bare.name]) * 1000)
    return p50(added)
