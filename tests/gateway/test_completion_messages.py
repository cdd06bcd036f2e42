"""Reading a conversation with tools in it: calls, their results, and in which order they may come."""

from typing import Any

import orjson
import pytest

from chat_app.gateway.completion_messages import MOST_ARGUMENTS
from chat_app.gateway.completion_request import read_completion
from chat_app.gateway.errors import ApiError
from chat_app.turn.call_gate import MOST_CALLS
from inference.protocol import Message, ToolCall

USER = {"role": "user", "content": "What is the weather?"}


def read(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return read_completion(orjson.dumps({"messages": messages})).messages


def refusal(*messages: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as error:
        read(*messages)
    assert (error.value.status, error.value.code) == (400, "bad_input")
    return error.value


def call(id: str = "call_1", name: str = "weather", arguments: str = '{"city": "Łódź"}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asks(*calls: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(id: str = "call_1", content: Any = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


CALL = ToolCall("call_1", "weather", '{"city": "Łódź"}')


@pytest.mark.parametrize("content", [None, ""])
def test_a_call_and_its_result(content: str | None) -> None:
    assert read(USER, asks(call(), content=content), result()) == (
        Message("user", "What is the weather?"),
        Message("assistant", "", (CALL,)),
        Message("tool", "rain", (), "call_1"),
    )


def test_the_assistant_may_speak_beside_a_call_and_leave_its_content_out() -> None:
    assert read(USER, asks(call(), content="One moment."), result())[1] == Message("assistant", "One moment.", (CALL,))
    bare = {"role": "assistant", "tool_calls": [call()]}
    assert read(USER, bare, result())[1] == Message("assistant", "", (CALL,))


def test_several_calls_have_their_results_in_any_order_and_in_parts() -> None:
    parts = [{"type": "text", "text": "ra"}, {"type": "text", "text": "in"}]
    said = read(USER, asks(call("a"), call("b")), result("b", parts), result("a", ""))
    assert said[2:] == (Message("tool", "rain", (), "b"), Message("tool", "", (), "a"))


def test_an_id_may_come_again_once_its_call_has_its_result() -> None:
    assert len(read(USER, asks(call()), result(), asks(call()), result())) == 5


def test_the_user_may_go_on_after_a_call() -> None:
    assert read(USER, asks(call()), result(), USER)[-1].role == "user"


def test_fields_of_tools_mean_nothing_in_other_messages() -> None:
    assert read({**USER, "tool_call_id": "call_1", "tool_calls": []}) == (Message("user", "What is the weather?"),)


LONG = "x" * (MOST_ARGUMENTS + 1)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([USER, asks(call()), {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
        ([USER, asks(call()), result("call_2")], "messages[2].tool_call_id"),
        ([USER, result(), asks(call())], "messages[1].tool_call_id"),
        ([USER, asks(call()), result(), result()], "messages[3].tool_call_id"),
        ([USER, asks(call()), result("")], "messages[2].tool_call_id"),
        ([USER, asks(call("call 1")), result("call 1")], "messages[1].tool_calls[0].id"),
        ([USER, asks(call("c\x00")), result("c\x00")], "messages[1].tool_calls[0].id"),
        ([USER, asks(call("c\n")), result("c\n")], "messages[1].tool_calls[0].id"),
        ([USER, asks(call("c" * 201)), result("c" * 201)], "messages[1].tool_calls[0].id"),
        ([USER, asks(call()), {**result(), "tool_call_id": 5}], "messages[2].tool_call_id"),
        ([USER, asks(call("x" * 201)), result("x" * 201)], "messages[1].tool_calls[0].id"),
        ([USER, asks(call()), result(content=None)], "messages[2].content"),
        ([USER, asks(call(), call())], "messages[1].tool_calls[1].id"),
        ([USER, asks(call()), asks(call())], "messages[2].tool_calls[0].id"),
        ([USER, asks(call())], "messages[1].role"),
        ([USER, asks()], "messages[1].content"),
        ([{**USER, "tool_calls": [call()]}], "messages[0].tool_calls"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([USER, asks({**call(), "type": "custom"}), result()], "messages[1].tool_calls[0].type"),
        ([USER, asks({"id": "call_1", "type": "function"}), result()], "messages[1].tool_calls[0].function"),
        ([USER, asks(call(name="bad name")), result()], "messages[1].tool_calls[0].function.name"),
        ([USER, asks(call(arguments=LONG)), result()], "messages[1].tool_calls[0].function.arguments"),
        ([USER, asks(*(call(f"c{n}") for n in range(MOST_CALLS + 1))), USER], "messages[1].tool_calls"),
        ([USER, {**asks(), "tool_calls": {}}, USER], "messages[1].tool_calls"),
    ],
)
def test_what_is_wrong_is_named(messages: list[dict[str, Any]], param: str) -> None:
    error = refusal(*messages)
    assert error.param == param
    assert error.message.startswith(param)


def test_the_bounds_themselves_are_taken() -> None:
    calls = [call("x" * 200, arguments=LONG[1:]), *(call(f"c{n}") for n in range(MOST_CALLS - 1))]
    assert len(read(USER, asks(*calls), USER)[1].tool_calls) == MOST_CALLS
