"""The tokens of a model, as ExLlamaV2's tokenizer has them: encoding, decoding, and which tokens end an answer."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.engines.exllama.folder import ends_in
from inference.protocol import Logprob, Picked

LEAST = -10_000.0  # In place of no probability at all, for which JSON has no number.
HEX = re.compile("<0x([0-9A-F]{2})>")
# Byte-level tokenizers write a byte that is a visible Latin-1 character as that, and the others as those from 256 on.
VISIBLE = (*range(33, 127), *range(161, 173), *range(174, 256))
UNSEEN = (byte for byte in range(256) if byte not in VISIBLE)
LETTERS = {chr(byte): byte for byte in VISIBLE} | {chr(256 + at): byte for at, byte in enumerate(UNSEEN)}


class Vocabulary:
    """`tokenizer` is an `ExLlamaV2Tokenizer` of the model in `folder`. Any thread may use it."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._tokenizer = tokenizer
        # ExLlamaV2's own way to take a text as it stands still finds control tokens in it.
        tokenizers: Any = importlib.import_module("tokenizers")
        self._literal = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._literal.encode_special_tokens = True
        self.size = int(tokenizer.actual_vocab_size)
        self.control = tuple(tokenizer.extended_piece_to_id)
        # ExLlamaV2 knows one end; many models have several.
        self.ends = sorted({*ends_in(folder), *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})

    def encode(self, text: str, control: bool) -> list[int]:
        """The tokens of a text; with `control`, the control tokens in it are such."""
        if control:
            return list(map(int, self._tokenizer.encode(text, encode_special_tokens=True)[0].tolist()))
        return list(self._literal.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens as they are written."""
        ids = self._torch.tensor(tokens, dtype=self._torch.long)
        return str(self._tokenizer.decode(ids, decode_special_tokens=True))

    def picked(self, tokens: Any, logits: Any, top: int) -> list[Picked]:
        """For each of n tokens, of shape (n), and the logits it was picked from, of shape (n, vocabulary): its log
        probability, and those of the `top` likeliest."""
        values = self._torch.log_softmax(logits[:, : self.size].float(), dim=-1).clamp(min=LEAST)
        best = values.topk(top, dim=-1) if top else None
        found = []
        for at, token in enumerate(tokens.tolist()):
            likeliest = zip(best.indices[at].tolist(), best.values[at].tolist(), strict=True) if best else ()
            others = tuple(self._logprob(other, value) for other, value in likeliest)
            found.append(Picked(self._logprob(token, float(values[at, token])), others))
        return found

    def _logprob(self, token: int, value: float) -> Logprob:
        text = str(self._tokenizer.get_id_to_piece_list(True)[token])
        raw = text.encode() if "\ufffd" not in text else bytes_of(self._literal.id_to_token(token) or "")
        return Logprob(text, value, raw)


def bytes_of(name: str) -> bytes:
    """The bytes of a token that is part of a character, by its name in tokenizer.json: "<0xF0>", or a letter for each
    byte. Empty if the name is neither."""
    if found := HEX.fullmatch(name):
        return bytes([int(found[1], 16)])
    return bytes(LETTERS[letter] for letter in name) if all(letter in LETTERS for letter in name) else b""
