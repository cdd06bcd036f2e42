"""Reasoning in raw text: parted the same wherever the text is cut, and never where it is not at the beginning."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import Chunk, Logprob, Picked, Usage
from inference.thinking import Thinking, parted, raw

WHOLE = "<think>\nFirst a < b </thin, then.\n</think>\n\nThe answer has <think>no</think> tags."
REASONING, TEXT = "First a < b </thin, then.\n", "The answer has <think>no</think> tags."


def read(pieces: list[str], begun: str = "") -> tuple[str, str]:
    thinking = Thinking(begun)
    chunks = [chunk for piece in pieces if (chunk := thinking.chunk(Chunk(piece, 1)))]
    last = thinking.chunk(Chunk("", 0, "stop"))
    assert last is not None
    assert last.finish == "stop"
    chunks.append(last)
    assert sum(chunk.tokens for chunk in chunks) == len(pieces)
    assert all(chunk.text or chunk.reasoning for chunk in chunks[:-1])
    return "".join(chunk.reasoning for chunk in chunks), "".join(chunk.text for chunk in chunks)


def cut(text: str, places: set[int]) -> list[str]:
    at = [0, *sorted(places), len(text)]
    return [text[one:other] for one, other in itertools.pairwise(at)]


@given(st.sets(st.integers(1, len(WHOLE) - 1)))
def test_a_tag_may_be_cut_anywhere(places: set[int]) -> None:
    assert read(cut(WHOLE, places)) == (REASONING, TEXT)


@given(st.text("<think>/ \na", max_size=30), st.sets(st.integers(0, 30)))
def test_text_that_does_not_begin_with_the_tag_is_only_text(text: str, places: set[int]) -> None:
    if text.lstrip().startswith("<think>"):
        text = f"x{text}"
    assert read(cut(text, {place for place in places if place < len(text)})) == ("", text)


@given(st.text("ab c\n", min_size=1), st.text("ab c", min_size=1), st.data())
def test_what_goes_on_behind_any_beginning_is_parted_like_the_whole(said: str, text: str, data: st.DataObject) -> None:
    """An engine dies anywhere in its raw text; the next one goes on behind what had been read."""
    said, text = f"r{said.strip()}r", f"t{text.strip()}t"
    whole = f"<think>{said}</think>{text}"
    place = data.draw(st.integers(len("<think>") + 1, len(whole) - 1))
    thinking = Thinking()
    reasoning, answer = thinking.feed(whole[:place])
    begun = raw(reasoning, answer)
    assert parted(begun) == (reasoning, answer)
    rest = whole[len("<think>") + len(reasoning) :] if not answer else text[len(answer) :]
    more = read([*rest], begun)
    assert (reasoning + more[0], answer + more[1]) == (said, text)


def test_a_thought_that_never_ends_is_all_reasoning() -> None:
    assert read(["<think>so", " and so", " </thi"]) == ("so and so </thi", "")
    assert read(["  \n"]) == ("", "  \n")
    assert read(["<thi"]) == ("", "<thi")


def test_what_the_server_parts_itself_is_left_alone() -> None:
    thinking = Thinking()
    assert thinking.chunk(Chunk("", 1, reasoning="hm")) == Chunk("", 1, reasoning="hm")
    assert thinking.chunk(Chunk("<think>x</think>", 1)) == Chunk("<think>x</think>", 1)


def test_what_is_held_back_keeps_its_tokens_and_their_probabilities() -> None:
    thinking, usage = Thinking(), Usage(3, 4)
    one, two, three = (Picked(Logprob(name, -1.0)) for name in "abc")
    assert thinking.chunk(Chunk("<thi", 2, logprobs=(one,), prompt_tokens=3)) is None
    assert thinking.chunk(Chunk("nk>", 1, logprobs=(two,))) is None
    chunk = thinking.chunk(Chunk("why</think>so", 1, "stop", usage, logprobs=(three,)))
    assert chunk == Chunk("so", 4, "stop", usage, (one, two, three), "why", (), 3)


@pytest.mark.parametrize(
    ("reasoning", "text", "begun"),
    [("", "t", "t"), ("r", "", "<think>\nr"), ("r ", "t", "<think>\nr\n</think>\n\nt"), ("", "", "")],
)
def test_a_beginning_is_written_as_models_write_it(reasoning: str, text: str, begun: str) -> None:
    assert raw(reasoning, text) == begun
    assert parted(begun) == (reasoning if not text else reasoning.rstrip(), text)
