"""What the whole product adds to the bare inference process: tokens per second, and time to the first token.

Both sides share one inference process, so that the engine is the same; rounds alternate, so that a slow minute of the
machine hits both. The product's side is API, checks, window, hold, log, settlement and events.
"""

import aiohttp

from bench.load import Target, stream, throughput
from bench.report import Row, p50

STREAMS = (1, 4, 8)
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


async def measure(bare: Target, product: Target, rounds: int = 4) -> tuple[list[Row], dict[str, float]]:
    """Medians over `rounds` alternating rounds. Ratios are product over bare, pair by pair."""
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for target in (bare, product):
        await throughput(target, TOPICS[:2], 8)
    for streams in STREAMS:
        ratios, speeds = [], []
        for at in range(rounds):
            questions = [f"{TOPICS[n]} (part {at})" for n in range(streams)]
            # Each side goes first in every other round: whoever comes second finds the prompt cached.
            order = (bare, product) if at % 2 == 0 else (product, bare)
            speed = {target.name: await throughput(target, questions, TOKENS) for target in order}
            ratios.append(speed[product.name] / speed[bare.name])
            speeds.append(speed)
        figures[f"throughput_ratio_{streams}"] = p50(ratios)
        shown = f"{p50([s[product.name] for s in speeds]):.0f} / {p50([s[bare.name] for s in speeds]):.0f} tokens/s"
        rows.append((f"tokens/s, {streams} stream(s), product / bare", f"{p50(ratios):.3f} ({shown})", ">= 0.95"))
    added = await _added_ttft(bare, product, rounds=16)
    figures["added_ttft_ms_p50"] = added
    rows.append(("added time to first token, p50", f"{added:.1f} ms", "<= 25 ms"))
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
