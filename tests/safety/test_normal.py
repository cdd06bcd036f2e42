"""Folding: one spelling for disguised text, piece by piece, with the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.safety.normal import Folded, fold, plain

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("disguised", "read"),
    [
        ("ＩＧＮＯＲＥ ａｌｌ", "IGNORE all"),
        ("𝐢𝐠𝐧𝐨𝐫𝐞 𝒂𝒍𝒍", "ignore all"),
        ("ⓘⓖⓝⓞⓡⓔ", "ignore"),
        ("іgnоrе", "ignore"),
        ("Ιgnοre", "Ignore"),
        ("ɪɢɴᴏʀᴇ", "IGNORE"),
        ("ïgnörê", "ignore"),
        ("i\u0301gnore", "ignore"),
        ("ig\u200bno\u2060r\ufeffe", "ignore"),
        ("ig\u00adnore\u202e", "ignore"),
        ("ig\x00no\x07re\x7f", "ignore"),
        ("ignore\u00a0all\u2003of\u3000it\x0b!", "ignore all of it !"),
        ("ﬁre oﬃce", "fire office"),
        ("line\nbreak\ttab\r\n", "line\nbreak\ttab\r\n"),
        ("".join(chr(0xE0000 + ord(char)) for char in "hidden"), "hidden"),
        ("漢字 がぎ 한국어", "漢字 がぎ 한국어"),
        ("👩‍💻", "👩💻"),
    ],
)
def test_disguises_fall(disguised: str, read: str) -> None:
    assert fold(disguised) == read


@given(ANY_TEXT, ANY_TEXT)
def test_pieces_fold_like_the_whole(one: str, two: str) -> None:
    assert fold(one) + fold(two) == fold(one + two)


@given(ANY_TEXT)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(ANY_TEXT)
def test_one_byte_per_character(text: str) -> None:
    assert len(plain(fold(text))) == len(fold(text))


@given(ANY_TEXT, st.data())
def test_a_span_of_the_original_folds_to_what_was_found(text: str, data: st.DataObject) -> None:
    folded = Folded.of(text)
    start = data.draw(st.integers(0, len(folded.ascii)))
    end = data.draw(st.integers(start, len(folded.ascii)))
    first, last = folded.span(start, end)
    assert 0 <= first <= last <= len(text)
    assert folded.ascii[start:end] in plain(fold(text[first:last]))


def test_span_covers_what_was_dropped_inside() -> None:
    text = "say: ig\u200bno\u200bre it"
    start = Folded.of(text).ascii.index(b"ignore")
    first, last = Folded.of(text).span(start, start + 6)
    assert text[first:last] == "ig\u200bno\u200bre"
