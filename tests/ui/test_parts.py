"""The parts of an answer: the order in which things happened, whatever the portions they came in."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chat_app.data.log.entries import Decoder, Entry, encode, text_of
from chat_app.ui.parts import PIECE_CHARS, Part, Parts, parts


def call(expression: str = "17 * 23", call_id: str = "c1") -> Entry:
    arguments = json.dumps({"expression": expression})
    return Entry("tool_call", data={"id": call_id, "name": "calculator", "arguments": arguments})


def result(content: str = "391", call_id: str = "c1", **more: object) -> Entry:
    return Entry("tool_result", data={"id": call_id, "content": content, **more})


SEALED = Entry("sealed", data={"seq": 1, "finish": "stop", "usage": {}})
TURN = [
    Entry("reasoning", "Let me see."),
    Entry("text", "I shall compute it."),
    call(),
    SEALED,
    result(),
    Entry("text", "It is 391."),
    SEALED,
]


def shape(made: list[Part]) -> list[tuple[str, str, str]]:
    return [(part.kind, part.state, part.label or "".join(part.blocks)) for part in made]


def test_a_turn_of_two_steps_is_shown_in_its_order() -> None:
    assert shape(parts(encode(TURN))) == [
        ("reasoning", "done", "Thought"),
        ("text", "done", "I shall compute it."),
        ("tool", "done", "Used calculator: 17 * 23 = 391"),
        ("text", "done", "It is 391."),
    ]
    [thought, _, tool, _] = parts(encode(TURN))
    assert thought.blocks == ["Let me see."]
    assert json.loads(tool.arguments) == {"expression": "17 * 23"}
    assert tool.result == "391"


def test_what_runs_says_so_and_then_what_came_of_it() -> None:
    read = Parts()
    assert read.silent
    read.feed(TURN[:1])
    assert shape(read.whole) == [("reasoning", "running", "Thinking…")]
    assert read.thought == "Let me see."
    assert not read.silent
    read.feed(TURN[1:2])
    assert shape(read.whole) == [("reasoning", "done", "Thought")]
    assert (read.thought, read.text.tail) == ("", "I shall compute it.")
    read.feed(TURN[2:4])
    assert shape(read.whole)[-1] == ("tool", "running", "Using calculator…")
    assert not read.silent
    read.feed(TURN[4:5])
    assert shape(read.whole)[-1] == ("tool", "done", "Used calculator: 17 * 23 = 391")
    assert read.silent  # The second step has said nothing yet.
    read.feed(TURN[5:])
    assert read.text.tail == "It is 391."
    assert not read.silent


def test_reasoning_that_ends_with_its_step_is_over() -> None:
    read = Parts()
    read.feed([TURN[0], SEALED])
    assert shape(read.whole) == [("reasoning", "done", "Thought")]
    read.feed(TURN[:1])
    assert len(read.whole) == 2


def test_a_tool_that_failed_or_never_came_back_says_so() -> None:
    failed = parts(encode([call("1 / 0"), result("division by zero", failed=True)]))
    assert shape(failed) == [("tool", "failed", "Could not use calculator: 1 / 0")]
    assert failed[0].result == "division by zero"
    assert shape(parts(encode([call()]))) == [("tool", "failed", "Asked for calculator: 17 * 23")]


def test_a_tool_that_does_not_exist_is_never_used() -> None:
    read, asked = Parts(), call()
    invented = Entry("tool_call", data={**asked.data, "name": "nope", "built_in": False})
    said = [("tool", "failed", "Asked for a tool that does not exist")]
    read.feed([invented])
    assert shape(read.whole) == said
    assert read.silent
    reported = result("there is no tool nope", failed=True)
    for log in ([invented], [invented, reported]):
        assert shape(parts(encode(log))) == said
    assert parts(encode([invented, reported]))[0].result == "there is no tool nope"


def test_calls_side_by_side_get_their_own_results() -> None:
    made = parts(encode([call("1", "a"), call("2", "b"), result("two", "b"), result("one", "a"), result("x", "z")]))
    assert [part.result for part in made] == ["one", "two"]


def test_two_calls_with_one_name_both_end() -> None:
    made = parts(encode([call("1", ""), call("2", ""), result("x", "")]))
    assert "running" not in {part.state for part in made}


def test_reasoning_that_was_cut_short_is_kept() -> None:
    [only] = parts(encode(TURN[:1]))
    assert (only.state, only.blocks) == ("done", ["Let me see."])


def test_long_reasoning_is_sent_again_only_at_its_end() -> None:
    read, whole = Parts(), "a thought of its own " * 500
    for at in range(0, len(whole), 7):
        read.feed([Entry("reasoning", whole[at : at + 7])])
        assert read.open_chars <= PIECE_CHARS
    assert "".join(read.whole[0].blocks) + read.thought == whole
    assert all(len(block) <= PIECE_CHARS for block in read.whole[0].blocks)
    read.end()
    assert "".join(read.whole[0].blocks) == whole


def test_reasoning_without_a_space_is_cut_as_well() -> None:
    read = Parts()
    read.feed([Entry("reasoning", "x" * 5_000)])
    assert read.open_chars <= PIECE_CHARS
    assert "".join(read.whole[0].blocks) + read.thought == "x" * 5_000


def test_white_space_between_steps_is_no_part() -> None:
    made = parts(encode([Entry("text", "\n\n"), call(), result(), Entry("text", "It is 391.")]))
    assert [part.kind for part in made] == ["tool", "text"]


def test_a_part_that_was_handed_out_never_changes() -> None:
    read = Parts()
    handed_out = []
    for entry in TURN:
        read.feed([entry])
        handed_out.append((list(read.whole), shape(read.whole)))
    assert [shape(whole) for whole, _ in handed_out] == [before for _, before in handed_out]


ENTRIES = st.lists(
    st.one_of(
        st.text("ab \n*`", min_size=1).map(lambda text: Entry("text", text)),
        st.text("cd \n", min_size=1).map(lambda text: Entry("reasoning", text)),
        st.sampled_from("12").map(lambda call_id: call(call_id=call_id)),
        st.sampled_from("12").map(lambda call_id: result(call_id=call_id)),
        st.just(SEALED),
    ),
    max_size=12,
)


@given(ENTRIES, st.lists(st.integers(0, 400), max_size=6))
def test_portions_make_no_difference_and_no_text_is_lost(entries: list[Entry], cuts: list[int]) -> None:
    log = encode(entries)
    read, decoder = Parts(), Decoder()
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    for begin, end in pairwise(places):
        read.feed(decoder.feed(log[begin:end]))
    read.end()
    at_once = parts(log)
    assert [(part.kind, part.label, "".join(part.blocks)) for part in read.all()] == [
        (part.kind, part.label, "".join(part.blocks)) for part in at_once
    ]
    text = "".join("".join(part.blocks) for part in at_once if part.kind == "text")
    assert "".join(text.split()) == "".join(text_of(entries).split())
    assert "running" not in {part.state for part in at_once}
