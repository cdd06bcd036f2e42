"""What a model thinks before it answers: `<think>…</think>` at the very beginning of its raw text.

Servers that know the model send it apart (`reasoning_content`); here it is taken out of the text of all others. Tags
may be cut anywhere between two pieces. Later in an answer they are text like any other. Pure.
"""

from dataclasses import replace
from typing import Literal

from inference.protocol import Chunk

OPEN, CLOSE = "<think>", "</think>"


def raw(reasoning: str, text: str) -> str:
    """The beginning of an answer as the model wrote it, for whoever goes on behind it."""
    if not reasoning:
        return text
    opened = f"{OPEN}\n{reasoning}"
    return f"{opened.rstrip()}\n{CLOSE}\n\n{text}" if text else opened


def parted(begun: str) -> tuple[str, str]:
    """The reasoning and the text in a raw beginning: what `raw` was made of."""
    thinking = Thinking()
    reasoning, text = thinking.feed(begun)
    rest_of_reasoning, rest_of_text = thinking.end()
    reasoning += rest_of_reasoning
    return (reasoning if thinking.inside else reasoning.rstrip()), text + rest_of_text


class Thinking:
    """Parts the pieces of one answer. `begun` is the raw text that it goes on behind, if it is continued."""

    def __init__(self, begun: str = "") -> None:
        self._state: Literal["before", "inside", "behind", "over"] = "before"
        self._held = ""
        self._strips = False
        self._kept: list[Chunk] = []
        if begun:
            inside = begun.lstrip().startswith(OPEN) and CLOSE not in begun
            self._state = "inside" if inside else "over"

    @property
    def inside(self) -> bool:
        """Whether the model has begun to think and has not ended."""
        return self._state == "inside"

    def settle(self) -> None:
        """The server parts the answer itself: what comes is what it says it is."""
        self._state = "over"

    def feed(self, piece: str) -> tuple[str, str]:
        """The reasoning and the text that are sure now."""
        if self._state == "over":
            return "", piece
        piece, self._held = self._held + piece, ""
        reasoning = ""
        if self._state == "before":
            begin = piece.lstrip()
            if OPEN.startswith(begin[: len(OPEN)]) and len(begin) < len(OPEN):
                self._held = piece
                return "", ""
            if not begin.startswith(OPEN):
                self._state = "over"
                return "", piece
            self._state, self._strips, piece = "inside", True, begin[len(OPEN) :]
        if self._state == "inside":
            if self._strips:
                piece = piece.lstrip()
                self._strips = not piece
            reasoning, closed, piece = piece.partition(CLOSE)
            if not closed:
                keep = _beginning(reasoning)
                self._held = reasoning[len(reasoning) - keep :]
                return reasoning[: len(reasoning) - keep], ""
            self._state = "behind"
        if piece := piece.lstrip():
            self._state = "over"
        return reasoning, piece

    def end(self) -> tuple[str, str]:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return (held, "") if self.inside else ("", held)

    def chunk(self, chunk: Chunk) -> Chunk | None:
        """The chunk with its text parted; None while all of it is held back, with its tokens."""
        if self._state == "over":
            return chunk
        if chunk.reasoning:
            reasoning, text = "", self._held.lstrip() + chunk.text
            self._held = ""
            self.settle()
        else:
            reasoning, text = self.feed(chunk.text)
        if chunk.finish:
            rest_of_reasoning, rest_of_text = self.end()
            reasoning, text = reasoning + rest_of_reasoning, text + rest_of_text
        if not (text or reasoning or chunk.reasoning or chunk.finish):
            self._kept.append(chunk)
            return None
        kept, self._kept = self._kept, []
        return replace(
            chunk,
            text=text,
            reasoning=chunk.reasoning + reasoning,
            tokens=chunk.tokens + sum(one.tokens for one in kept),
            logprobs=(*(picked for one in kept for picked in one.logprobs), *chunk.logprobs),
            prompt_tokens=next((n for one in (*kept, chunk) if (n := one.prompt_tokens) is not None), None),
        )


def _beginning(text: str) -> int:
    """How many characters at the end of the text may be the beginning of the closing tag."""
    return next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
