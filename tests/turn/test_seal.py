"""The seals in a log: how each step and the whole turn ended, and what of it the next step reads."""

from dataclasses import replace

import pytest

from chat_app.data.log.entries import Entry, decode, encode
from chat_app.safety.verdict import Verdict
from chat_app.turn.seal import (
    BETWEEN,
    Sealed,
    ending,
    entries_of_step,
    result_in,
    sealed_in,
    seals,
    tool_messages,
    unanswered,
)
from inference.protocol import Message, ToolCall

VERDICT = Verdict("output", "secret", "aws", "It looks like a key.")
ASKS = Sealed(1, "large", "tool_calls", 10, 2, 1, estimated=True, began_at=1, first_at=2, ended_at=3, screen_us=4)
ENDS = Sealed(3, "small", "stopped", 20, 4, 3, error="why", code="stop", blocked=VERDICT, excerpt="the end", began_at=5)


def call(id: str, built_in: bool = True) -> Entry:
    return Entry("tool_call", data={"id": id, "name": f"tool {id}", "arguments": f'["{id}"]', "built_in": built_in})


def result(id: str, step: int = 2) -> Entry:
    return Entry("tool_result", data={"id": id, "content": f"result {id}", "step": step})


def as_called(id: str) -> ToolCall:
    return ToolCall(id, f"tool {id}", f'["{id}"]')


TURN = [
    Entry("reasoning", "Hm."),
    Entry("text", "Let me "),
    Entry("text", "see."),
    call("a"),
    call("b"),
    ASKS.entry(),
    result("a"),
    result("b", 3),
    Entry("text", BETWEEN + "And "),
    call("c"),
    replace(ASKS, seq=4).entry(),
    result("c", 5),
    Entry("text", BETWEEN + "It is 4."),
    replace(ENDS, seq=6).entry(),
]


@pytest.mark.parametrize(
    ("finish", "status"),
    [
        ("stop", "done"),
        ("length", "done"),
        ("tool_calls", "done"),
        ("stopped", "stopped"),
        ("refused", "refused"),
        ("failed", "failed"),
    ],
)
def test_the_status_follows_from_the_finish(finish: str, status: str) -> None:
    assert Sealed(1, "m", finish).status == status


@pytest.mark.parametrize("sealed", [ASKS, ENDS, Sealed(2, "", "length")])
def test_a_seal_is_read_as_it_was_written(sealed: Sealed) -> None:
    [entry] = decode(encode([sealed.entry()]))
    assert sealed_in([entry], sealed.seq) == sealed
    assert seals([entry]) == [sealed]


def test_what_a_newer_release_wrote_into_a_seal_is_left_out() -> None:
    data = ENDS.entry().data
    newer = Entry("sealed", data={**data, "mood": "good", "blocked": {**data["blocked"], "score": 1}})
    assert seals([newer]) == [ENDS]


def test_the_seal_of_a_step_is_its_own() -> None:
    assert sealed_in(TURN, 1) == ASKS
    assert sealed_in(TURN, 6) == replace(ENDS, seq=6)
    assert sealed_in(TURN, 2) is None
    assert sealed_in([], 1) is None
    assert [one.seq for one in seals(TURN)] == [1, 4, 6]


def test_a_turn_ended_as_its_last_seal_says_with_the_tokens_of_all() -> None:
    whole = replace(ENDS, prompt_tokens=30, completion_tokens=6, cached_tokens=4)
    assert ending([ASKS.entry(), result("a"), ENDS.entry()], "stopped") == whole
    assert ending([ASKS.entry()], "done") == ASKS


@pytest.mark.parametrize("status", ["done", "failed", "refused"])
def test_an_end_of_which_the_last_seal_says_nothing_is_unknown(status: str) -> None:
    """The first one would: that step was done."""
    assert ending([ASKS.entry(), ENDS.entry()], status) is None
    assert ending([], status) is None


def test_a_model_step_has_written_what_comes_behind_the_last_result() -> None:
    assert entries_of_step(TURN) == TURN[-2:]
    assert entries_of_step(TURN[:6]) == TURN[:6]
    assert entries_of_step(TURN[:7]) == []
    assert entries_of_step([]) == []


def test_the_result_of_a_step_is_its_own() -> None:
    assert result_in(TURN, 3) == result("b", 3)
    assert result_in(TURN, 1) is None
    assert result_in([Entry("tool_result", data={"id": "a", "content": "of an earlier release"})], 2) is None


def test_calls_that_get_their_result_within_the_turn_wait_for_it_in_order() -> None:
    assert unanswered(TURN) == []
    assert unanswered(TURN[:6]) == [as_called("a"), as_called("b")]
    assert unanswered(TURN[:7]) == [as_called("b")]
    assert unanswered([call("c"), call("out", built_in=False), call("a"), result("unasked")]) == [
        as_called("c"),
        as_called("a"),
    ]


def test_the_next_step_reads_what_was_said_called_and_got_back() -> None:
    assert tool_messages(TURN) == [
        Message("assistant", "Let me see.", (as_called("a"), as_called("b"))),
        Message("tool", "result a", tool_call_id="a"),
        Message("tool", "result b", tool_call_id="b"),
        Message("assistant", "And ", (as_called("c"),)),
        Message("tool", "result c", tool_call_id="c"),
    ]
    assert tool_messages(TURN[:5]) == []
