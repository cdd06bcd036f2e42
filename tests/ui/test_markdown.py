"""Blocks: nothing is lost, the split does not matter, and a block reads alone as it reads in the whole."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.ui.markdown import Blocks, blocks

LINE = st.sampled_from(
    [
        "",
        "  ",
        "word",
        "# Head",
        "- item",
        "1. one",
        "   more",
        "    code",
        "```",
        "```py",
        "~~~",
        "> quote",
        "| a |",
        "x",
    ]
)
MARKDOWN = st.lists(LINE, max_size=30).map("\n".join) | st.text(alphabet="ab \n`~-1.", max_size=80)


@st.composite
def split_text(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = draw(MARKDOWN)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    edges = [0, *cuts, len(text)]
    return text, [text[start:end] for start, end in pairwise(edges)]


@given(split_text())
def test_every_character_stays_in_its_place(case: tuple[str, list[str]]) -> None:
    _, pieces = case
    cut = Blocks()
    so_far = ""
    for piece in pieces:
        cut.feed(piece)
        so_far += piece
        assert "".join(cut.finished) + cut.tail == so_far
    assert all(cut.finished)


@given(split_text())
def test_how_the_text_arrives_does_not_matter(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    cut = Blocks()
    for piece in pieces:
        cut.feed(piece)
    whole = Blocks(text)
    assert (cut.finished, cut.tail) == (whole.finished, whole.tail)


@given(split_text())
def test_a_finished_block_is_never_taken_back(case: tuple[str, list[str]]) -> None:
    cut = Blocks()
    seen: list[str] = []
    for piece in case[1]:
        cut.feed(piece)
        assert cut.finished[: len(seen)] == seen
        seen = list(cut.finished)


@given(st.lists(st.sampled_from(["a", "b", "", "c d"]), max_size=8), st.sampled_from(["```", "~~~~"]))
def test_a_code_fence_is_one_block(lines: list[str], fence: str) -> None:
    code = "\n".join([f"{fence}py", *lines, fence])
    assert blocks(f"before\n\n{code}\n\nafter") == ["before\n\n", f"{code}\n\n", "after"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n\ntwo\n\n\nthree", ["one\n\n", "two\n\n\n", "three"]),
        ("one\n\n", ["one\n\n"]),
        ("\n\none\n\ntwo", ["\n\none\n\n", "two"]),
        ("- a\n\n- b\n\ntext", ["- a\n\n- b\n\n", "text"]),
        ("1. a\n\n   still a\n\n2. b\n\ntext", ["1. a\n\n   still a\n\n2. b\n\n", "text"]),
        ("- a\n\n  ```\n  x\n\n  y\n  ```\n\ntext", ["- a\n\n  ```\n  x\n\n  y\n  ```\n\n", "text"]),
        ("text\n\n    indented code\n\nmore", ["text\n\n    indented code\n\n", "more"]),
        ("````\n```\n\n```\n````\n\nend", ["````\n```\n\n```\n````\n\n", "end"]),
        ("```unclosed\n\ncode", ["```unclosed\n\ncode"]),
        ("``not` a fence``\n\ntwo", ["``not` a fence``\n\n", "two"]),
        ("a\r\n\r\nb", ["a\r\n\r\n", "b"]),
    ],
)
def test_where_the_cuts_lie(text: str, cut: list[str]) -> None:
    assert blocks(text) == cut


def test_the_next_block_ends_the_last_with_its_first_letter() -> None:
    cut = Blocks("One paragraph.\n\nT")
    assert cut.finished == ["One paragraph.\n\n"]
    assert cut.tail == "T"


def test_a_long_answer_costs_little_for_each_piece() -> None:
    cut = Blocks()
    for number in range(20_000):
        cut.feed(f"word{number} " + ("\n\n" if number % 50 == 49 else ""))
    assert len(cut.finished) == 399
    assert len(cut.tail) < 1_000
