"""The typed entries: however a log is cut, it reads as it was written, and what cannot be read spoils nothing else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.data.log.entries import END, RECORD, Decoder, Entry, Kind, clean, decode, encode, text_of

TEXT = st.text(max_size=12).map(clean)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KINDS: list[Kind] = ["tool_call", "tool_result", "status", "sealed"]
ENTRY = st.one_of(
    st.builds(lambda text: Entry("text", text), TEXT),
    st.builds(lambda text: Entry("reasoning", text), TEXT),
    st.builds(lambda kind, data: Entry(kind, data=data), st.sampled_from(KINDS), st.dictionaries(TEXT, JSON)),
)
LOG = st.lists(ENTRY, max_size=8)


def joined(entries: list[Entry]) -> list[Entry]:
    """With neighbouring text as one entry, and none that is empty: how it was cut is not kept."""
    out: list[Entry] = []
    for entry in entries:
        if entry.kind == "text" and out and out[-1].kind == "text":
            out[-1] = Entry("text", out[-1].text + entry.text)
        elif entry.kind != "text" or entry.text:
            out.append(entry)
    return out


@given(entries=LOG, cuts=st.lists(st.integers(0, 200)))
def test_a_log_reads_as_it_was_written_however_it_is_cut(entries: list[Entry], cuts: list[int]) -> None:
    log = encode(entries)
    decoder = Decoder()
    read: list[Entry] = []
    for begin, end in pairwise(sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})):
        for offset, entry in decoder.placed(log[begin:end]):
            assert log.startswith(encode([entry]), offset)
            read.append(entry)
    assert joined(read) == joined(entries)
    assert decoder.offset == len(log)
    assert joined(decode(log)) == joined(entries)


@given(entries=LOG)
def test_what_an_answer_says_is_its_text_alone(entries: list[Entry]) -> None:
    assert text_of(decode(encode(entries))) == "".join(entry.text for entry in entries if entry.kind == "text")


@given(text=TEXT.filter(bool))
def test_an_answer_of_nothing_but_text_is_its_log(text: str) -> None:
    assert encode([Entry("text", text)]) == text
    assert decode(text) == [Entry("text", text)]


def test_each_kind_as_it_lies_in_the_log() -> None:
    """These strings are in databases: a release that reads them differently loses answers."""
    call = {"id": "c1", "name": "calculator", "arguments": '{"a": 1}'}
    assert encode([Entry("reasoning", "hm\n")]) == "\x1erhm\n\x1f"
    assert encode([Entry("tool_call", data=call)]) == (
        '\x1ec{"id":"c1","name":"calculator","arguments":"{\\"a\\": 1}"}\x1f'
    )
    assert encode([Entry("tool_result", data={"id": "c1"})]) == '\x1et{"id":"c1"}\x1f'
    assert encode([Entry("status", data={})]) == "\x1es{}\x1f"
    assert encode([Entry("sealed", data={"seq": 1})]) == '\x1ez{"seq":1}\x1f'


def test_marks_inside_data_do_not_end_it() -> None:
    entries = [Entry("tool_result", data={"content": f"{RECORD}r{END}\x00"}), Entry("text", "on")]
    assert decode(encode(entries)) == entries


@pytest.mark.parametrize(
    "frame",
    [
        f"{RECORD}q{{}}{END}",  # a kind of a later release
        f"{RECORD}{END}",
        f'{RECORD}z{{"seq": 1{END}',
        f"{RECORD}z[1]{END}",
        f"{RECORD}z{END}",
        f"{RECORD}s\ufffd{END}",
    ],
)
def test_what_cannot_be_read_is_left_out_and_counted(frame: str) -> None:
    log = f"before{frame}behind"
    decoder = Decoder()
    assert decoder.placed(log) == [(0, Entry("text", "before")), (6 + len(frame), Entry("text", "behind"))]
    assert decoder.offset == len(log)


def test_a_frame_is_an_entry_once_its_end_has_come() -> None:
    decoder = Decoder()
    assert decoder.feed("a\x1erth") == [Entry("text", "a")]
    assert decoder.offset == 1
    assert decoder.feed("ink") == []
    assert decoder.offset == 1
    assert decoder.placed("ing\x1fb") == [(1, Entry("reasoning", "thinking")), (12, Entry("text", "b"))]
    assert decoder.offset == 13


def test_an_end_without_a_frame_is_text() -> None:
    assert decode(f"a{END}b") == [Entry("text", f"a{END}b")]


@given(text=st.text(alphabet=st.characters(codec=None) | st.sampled_from("\x00\x1e\x1f\x7f\ud800\t\n\r")))
def test_clean_text_can_be_stored_everywhere(text: str) -> None:
    kept = clean(text)
    kept.encode()
    assert not {RECORD, END, "\x00", "\x7f"} & set(kept)
    assert clean(kept) == kept
    for char in "\t\n\r🎉é":
        assert kept.count(char) == text.count(char)


def test_clean_drops_marks_and_replaces_surrogates() -> None:
    assert clean("a\x1eb\x00\x1b[0m\tc\r\nd\x7f\ud800e") == "ab[0m\tc\r\nd?e"
    assert clean("plain, ünd 🎉") == "plain, ünd 🎉"
