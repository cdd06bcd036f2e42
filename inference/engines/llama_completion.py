"""What llama.cpp's server is asked for at `/completion`, and what its events say. Pure; knows no connection."""

from typing import Any

import orjson

from inference.protocol import Logprob, Picked, Request, Sampling

PLAIN = Sampling(0)
WORDS = {
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "grammar": "grammar",
}


def completion(request: Request, prompt: list[int]) -> dict[str, Any]:
    """The body that has a prompt of tokens answered as the request wants it."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "prompt": prompt,
        "stream": True,
        "n_predict": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "cache_prompt": True,
        # Progress is written after each batch of the prompt, which is when a closed connection is noticed.
        "return_progress": True,
        "response_fields": ["content", "stop", "stop_type", "tokens_predicted"],
    }
    # What is off is not sent, so that llama.cpp's own habits (40 for top_k, 0.05 for min_p) stand.
    for word, ours in WORDS.items():
        if (value := getattr(sampling, ours)) != getattr(PLAIN, ours):
            body[word] = value
    if sampling.logprobs is not None:
        body["n_probs"] = max(1, sampling.logprobs)
        body["response_fields"].append("completion_probabilities")
    if sampling.json_schema:
        body["json_schema"] = orjson.Fragment(sampling.json_schema)
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 0xFFFFFFFF  # 32 bits; all ones would mean a random one.
    return body


def picked_in(event: dict[str, Any], most: int) -> list[Picked]:
    """The tokens that an event describes. Of a character of several tokens that is the last only, with all its text."""
    return [
        Picked(_logprob(entry), tuple(map(_logprob, entry["top_logprobs"][:most])))
        for entry in event.get("completion_probabilities") or ()
    ]


def _logprob(entry: dict[str, Any]) -> Logprob:
    return Logprob(entry["token"], entry["logprob"], bytes(entry["bytes"]))


def is_json(text: str) -> bool:
    """Whether the text is whole JSON."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
