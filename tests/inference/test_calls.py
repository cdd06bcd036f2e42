"""Tool calls in every way in which servers are known to send them."""

from typing import Any

import pytest

from inference.calls import Calls
from inference.protocol import ToolCall


def piece(arguments: Any = None, *, index: int | None = None, id: str | None = None, name: str | None = None) -> Any:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return made | ({} if index is None else {"index": index}) | ({} if id is None else {"id": id})


def put_together(*deltas: list[Any]) -> list[tuple[str, str, str]]:
    calls = Calls()
    for delta in deltas:
        calls.feed(delta)
    return [(call.id, call.name, call.arguments) for call in calls.whole]


TWO = [("1", "add", '{"a": 1}'), ("2", "sub", "{}")]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param(
            [
                [piece("", index=0, id="1", name="add")],
                [piece('{"a"', index=0)],
                [piece("", index=1, id="2", name="sub")],
                [piece(": 1}", index=0)],
                [piece("{}", index=1)],
            ],
            id="OpenAI's way, two of them interleaved",
        ),
        pytest.param(
            [
                [piece('{"a"', index=0, id="1", name="add"), piece("{", index=1, id="2", name="sub")],
                [piece(": 1}", index=0, id="1", name="add"), piece("}", index=1, id="2", name="sub")],
            ],
            id="id and name in every piece",
        ),
        pytest.param(
            [[piece('{"a"', id="1", name="add")], [piece(": 1}")], [piece("{}", id="2", name="sub")]], id="no index"
        ),
        pytest.param(
            [[piece('{"a": 1}', index=0, id="1", name="add"), piece("{}", index=0, id="2", name="sub")]],
            id="whole, and the index always 0",
        ),
        pytest.param(
            [[piece('{"a": 1}', id="1", name="add")], [piece({}, id="2", name="sub")]],
            id="whole, the arguments an object",
        ),
        pytest.param(
            [[piece("", index=0, name="add")], [piece('{"a": 1}', index=0, id="1")], [piece("{}", id="2", name="sub")]],
            id="the id comes late",
        ),
    ],
)
def test_pieces_become_whole_calls(deltas: list[list[Any]]) -> None:
    assert put_together(*deltas) == TWO


def test_calls_without_ids_get_some() -> None:
    calls = Calls()
    calls.feed([piece('{"a": 1}', name="add"), piece('{"a": 2}', name="add")])
    one, other = calls.whole
    assert (one.arguments, other.arguments) == ('{"a": 1}', '{"a": 2}')
    assert one.id and other.id and one.id != other.id


def test_a_name_that_is_repeated_goes_on_with_its_call() -> None:
    calls = Calls()
    calls.feed([piece('{"a"', index=0, name="add")])
    calls.feed([piece(": 1}", index=0, name="add")])
    assert [(call.name, call.arguments) for call in calls.whole] == [("add", '{"a": 1}')]


def test_arguments_that_are_no_json_are_passed_on_as_they_are() -> None:
    assert put_together([piece("{oops", id="1", name="add")]) == [("1", "add", "{oops")]
    assert put_together([piece(None, id="1", name="add")]) == [("1", "add", "")]


def test_a_call_without_a_name_is_none() -> None:
    calls = Calls()
    calls.feed([piece("{}", id="1")])
    assert calls.whole == ()
    assert ToolCall("1", "a", "") not in calls.whole


@pytest.mark.parametrize("odd", [7, ["x"], [{"function": "f"}], [piece(3, name="add")]])
def test_what_is_no_call_is_refused(odd: Any) -> None:
    with pytest.raises((AttributeError, TypeError, ValueError)):
        Calls().feed(odd)
