"""From our words for sampling to the sampler's of ExLlamaV2. Pure; imports nothing of it."""

from typing import Any

from inference.protocol import Sampling


def sampler_settings(sampling: Sampling) -> dict[str, Any]:
    """The arguments of `ExLlamaV2Sampler.Settings`.

    Every value that matters is given, since its defaults are a taste (a repetition penalty, top_k 50, top_p 0.8).
    Greedy is said as top_k 1. A min_p of 1 would be off to it. Penalties count the prompt's tokens too.
    """
    chosen: dict[str, Any] = {
        "token_repetition_penalty": sampling.repetition_penalty,
        "token_frequency_penalty": sampling.frequency_penalty,
        "token_presence_penalty": sampling.presence_penalty,
    }
    if sampling.temperature <= 0:
        return {**chosen, "temperature": 1.0, "top_k": 1, "top_p": 0.0, "min_p": 0.0, "typical": 0.0}
    return {
        **chosen,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p if sampling.top_p < 1 else 0.0,
        "min_p": min(sampling.min_p, 0.9999),
        "typical": sampling.typical_p if sampling.typical_p < 1 else 0.0,
    }
