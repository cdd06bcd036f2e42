"""A forward pass and a sampler for the real package exllamav2, where its model and its extension are not to be had.

The next token follows from the last: the next letter of the alphabet, an end after z, a tree after "!", else a full
stop. Sampling takes the likeliest of what a filter allows. It says nothing about a model.
"""

from itertools import pairwise
from string import ascii_lowercase
from typing import Any

import pytest

from inference.engines.exllama.v2_vocabulary import Vocabulary
from tests.inference.exllama_tiny import END, SIZE

PADDED = SIZE + -SIZE % 32


class Alphabet:
    """`read` is how many tokens each call of the model read."""

    def __init__(self, torch: Any, vocabulary: Vocabulary) -> None:
        self.read: list[int] = []
        self._torch = torch
        self._allowed: list[int] = []
        ids = {letter: vocabulary.encode(letter, False)[0] for letter in f"{ascii_lowercase}!."}
        tree = vocabulary.encode("🌲", False)
        self._else = ids["."]
        self._after = {ids[letter]: ids[following] for letter, following in pairwise(ascii_lowercase)}
        self._after |= {ids["z"]: END, ids["!"]: tree[0], **dict(pairwise(tree))}

    def install(self, exl2: Any, patch: pytest.MonkeyPatch) -> None:
        """Put it where the package calls its model and its extension."""
        ext = exl2.ext.exllamav2_ext
        patch.setattr(exl2.ExLlamaV2, "forward_chunk", lambda model, **named: self._forward(**named))
        patch.setattr(exl2.ExLlamaV2Cache, "copy_states", lambda *named: None)
        for name, done in (
            ("sample_basic", self._sample),
            ("logit_filter_exclusive", self._allow),
            ("count_match", _matching),
            ("fast_fill_cpu_ones_bool", lambda mask: None),
        ):
            patch.setattr(ext, name, done, raising=False)

    def _forward(self, input_ids: Any, preprocess_only: bool = False, **named: Any) -> Any:
        self.read.append(input_ids.numel())
        if preprocess_only:
            return {}
        logits = self._torch.full((*input_ids.shape, PADDED), -10.0)
        for row, tokens in enumerate(input_ids.tolist()):
            for column, token in enumerate(tokens):
                logits[row, column, self._after.get(token, self._else)] = 10.0
        return {"logits": logits}

    def _allow(self, mask: Any, tokens: list[list[int]]) -> None:
        self._allowed = sorted(tokens[0])

    def _sample(self, logits: Any, *named: Any) -> list[float]:
        among, self._allowed = self._allowed or list(range(PADDED)), []
        output_tokens, output_probs = named[8], named[9]
        output_tokens[0, 0], output_probs[0, 0] = among[int(logits[0, 0, among].argmax())], 1.0
        return []


def _matching(page: Any, ids: Any, most: int) -> int:
    pairs = zip(page[0].tolist()[:most], ids[0].tolist(), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(most, ids.shape[1]))
