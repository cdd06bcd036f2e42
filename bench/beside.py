"""The inference service beside llama.cpp's own server: tokens per second, and time to the first token.

Two processes with the same model and the same options, both warm, of which only one computes at a time: rounds
alternate (service, peer, peer, service), so that a slow minute of the machine hits both. Both are asked the same, each
question once, so that neither finds it in its prompt cache. The client runs on the same cores and reads all that comes,
on both sides alike: the service gathers tokens as it does for whoever does not ask it for every one, llama.cpp sends
each by itself. Answers that end before their limit count with the tokens they have. Ratios are medians of the rounds.
"""

from collections.abc import Sequence

from bench.bounds import INFERENCE, PEERS
from bench.load import Stream, Target, client, conversation, stream, throughput
from bench.report import Row, p50

ROUNDS = {1: 24, 4: 10, 8: 6, 16: 6}
"""Streams at a time, and how many rounds of each: one round of few streams is short, and so more at chance's mercy."""
TOKENS = 96
TTFT_ROUNDS = 30
SUBJECTS = (
    "rain",
    "harbours",
    "prime numbers",
    "cooking",
    "lighthouses",
    "bicycles",
    "honey bees",
    "autumn",
    "bridges",
    "the moon",
    "clocks",
    "rivers",
    "glass",
    "paper",
    "trains",
    "salt",
)

Part = tuple[list[Row], dict[str, float]]


async def measure(service: Target, peers: Sequence[Target]) -> Part:
    """Each ratio is service over peer; those of the second peer, if there is one, begin with `native_`."""
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for target in (service, *peers):
        await throughput(target, [f"Say something about {subject}." for subject in SUBJECTS[:2]], 8)
    for streams, rounds in ROUNDS.items():
        speeds = [await _round(service, peers, streams, at) for at in range(rounds)]
        for peer, prefix in zip(peers, PEERS, strict=False):
            ratio = p50([speed[service.name] / speed[peer.name] for speed in speeds])
            key = f"{prefix}tokens_ratio_{streams}"
            figures[key] = ratio
            ours, theirs = (p50([speed[target.name] for speed in speeds]) for target in (service, peer))
            what = f"tokens/s, {streams} stream(s), service / {peer.name}"
            rows.append((what, f"{ratio:.3f} ({ours:.0f} / {theirs:.0f} tokens/s)", str(INFERENCE[key])))
    seen = await _first_tokens(service, peers)
    for peer, prefix in zip(peers, PEERS, strict=False):
        ours, theirs = p50(seen[service.name]), p50(seen[peer.name])
        key = f"{prefix}ttft_ratio"
        figures[key] = ours / theirs
        shown = f"{ours / theirs:.3f} ({ours * 1000:.0f} / {theirs * 1000:.0f} ms)"
        rows.append((f"time to first token, p50, one stream, service / {peer.name}", shown, str(INFERENCE[key])))
    return rows, figures


async def _round(service: Target, peers: Sequence[Target], streams: int, at: int) -> dict[str, float]:
    questions = [f"Write a long essay about {SUBJECTS[n]}, part {at} of {streams}." for n in range(streams)]
    return {target.name: await throughput(target, questions, TOKENS) for target in _order(service, peers, at)}


async def _first_tokens(service: Target, peers: Sequence[Target]) -> dict[str, list[float]]:
    """Short questions, of which only the system prompt is cached: the shorter the prompt, the more the way weighs."""
    seen: dict[str, list[float]] = {target.name: [] for target in (service, *peers)}
    async with client() as session:
        for at in range(TTFT_ROUNDS):
            subject = SUBJECTS[at % len(SUBJECTS)]
            question = conversation(
                f"Number {at}: somebody who knows nothing about {subject} asks what matters most about {subject}, "
                f"and which three facts about it a child of eight years would like to hear. What do you say?"
            )
            answers: dict[str, Stream] = {}
            for target in _order(service, peers, at):
                answers[target.name] = await stream(session, target, question, 4)
                seen[target.name].append(answers[target.name].ttft)
            if len({one.prompt_tokens for one in answers.values()}) > 1:
                raise RuntimeError(f"the servers read different prompts: {answers}")
    return seen


def _order(service: Target, peers: Sequence[Target], at: int) -> list[Target]:
    order = [service, *peers]
    return order if at % 2 == 0 else order[::-1]
