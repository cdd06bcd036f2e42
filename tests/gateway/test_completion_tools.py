"""Reading tools: functions of the program's own, built-in ones, the choice among them, and their bounds."""

from typing import Any

import orjson
import pytest

from chat_app.gateway.completion_bounds import MOST_TOOLS
from chat_app.gateway.completion_request import read_completion
from chat_app.gateway.completion_tools import MOST_BYTES, MOST_PARTS, Tools
from chat_app.gateway.errors import ApiError
from inference.protocol import Tool

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
CALCULATOR = {"type": "calculator"}


def read(**fields: Any) -> Tools:
    return read_completion(orjson.dumps({**HELLO, **fields})).tools


def function(name: Any = "weather", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def chosen(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def test_without_tools() -> None:
    assert read() == read(tools=None, tool_choice=None) == read(tools=[]) == Tools((), (), "auto")
    assert read(tool_choice="none").choice == "none"


def test_functions_and_built_in_tools() -> None:
    weather = function(description="Of a city", parameters=PARAMETERS, strict=True)
    tools = read(tools=[weather, CALCULATOR, function("now", description=None)], parallel_tool_calls=True)
    schema = '{"type":"object","properties":{"city":{"type":"string"}}}'
    assert tools.functions == (Tool("weather", "Of a city", schema), Tool("now", "", ""))
    assert (tools.built_in, tools.choice) == (("calculator",), "auto")


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_choice_in_a_word(choice: str) -> None:
    assert read(tools=[function()], tool_choice=choice).choice == choice
    assert read(tools=[CALCULATOR], tool_choice=choice).choice == choice


def test_a_choice_of_one_function() -> None:
    assert read(tools=[function(), function("other")], tool_choice=chosen("other")).choice == "other"


@pytest.mark.parametrize("choice", [CALCULATOR, chosen("calculator")])
def test_a_choice_of_a_built_in_tool(choice: dict[str, Any]) -> None:
    assert read(tools=[function(), CALCULATOR], tool_choice=choice).choice == "calculator"


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64, "calculator"])
def test_names(name: str) -> None:
    assert read(tools=[function(name)]).functions == (Tool(name),)


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        (["function"], "tools[0]"),
        ([{}], "tools[0].type"),
        ([{"type": "retrieval"}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "function", "function": None}], "tools[0].function"),
        ([function(None)], "tools[0].function.name"),
        ([function(""), CALCULATOR], "tools[0].function.name"),
        ([function("x" * 65)], "tools[0].function.name"),
        ([function("two words")], "tools[0].function.name"),
        ([function("line\n")], "tools[0].function.name"),
        ([function("naïve")], "tools[0].function.name"),
        ([function("required")], "tools[0].function.name"),
        ([function(), function()], "tools[1].function.name"),
        ([CALCULATOR, function("calculator")], "tools[1].function.name"),
        ([CALCULATOR, CALCULATOR], "tools[1].type"),
        ([function(description=5)], "tools[0].function.description"),
        ([function(parameters="{}")], "tools[0].function.parameters"),
        ([function(), function("b", parameters={"type": "array"})], "tools[1].function.parameters"),
        ([function(parameters={"type": "nonsense"})], "tools[0].function.parameters"),
        ([function(parameters={"properties": {"a": {"maxItems": 10**9}}})], "tools[0].function.parameters"),
        ([function(f"f{n}") for n in range(MOST_TOOLS + 1)], "tools"),
        ([function("a", description="ü" * (MOST_BYTES // 2))], "tools"),
    ],
)
def test_what_is_wrong_is_named(tools: Any, param: str) -> None:
    with pytest.raises(ApiError) as error:
        read(tools=tools)
    assert (error.value.status, error.value.code, error.value.param) == (400, "bad_input", param)
    assert error.value.message.startswith(param)


def test_what_is_too_large_together_is_refused_before_any_schema_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr("chat_app.gateway.completion_tools.check_schema", looked_at.append)
    large = {"title": "x" * (MOST_BYTES // MOST_TOOLS)}
    with pytest.raises(ApiError) as error:
        read(tools=[function(f"f{n}", parameters=large) for n in range(MOST_TOOLS)])
    assert (error.value.param, looked_at) == ("tools", [])


def test_parts_of_all_tools_together_are_bounded() -> None:
    each = 125
    parameters = {"properties": {f"{n}": {} for n in range(each - 1)}}
    bare = [function("bare"), function("null", parameters=None)]  # They have no part, and make room for none.
    tools = [*bare, *(function(f"f{n}", parameters=parameters) for n in range(MOST_PARTS // each))]
    assert len(read(tools=tools).functions) == MOST_PARTS // each + 2
    with pytest.raises(ApiError) as error:
        read(tools=[*tools, function("more", parameters={})])
    assert error.value.param == "tools"


def test_nesting_without_end_is_refused() -> None:
    raw = (
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":'
    )
    with pytest.raises(ApiError) as error:
        read_completion(raw + b'{"not":' * 500 + b"{}" + b"}" * 500 + b"}}]}")
    assert error.value.param == "tools[0].function.parameters"


def test_the_bounds_themselves_are_taken() -> None:
    assert len(read(tools=[function(f"f{n}") for n in range(MOST_TOOLS)]).functions) == MOST_TOOLS
    fits = function("a", description="ü" * (MOST_BYTES // 2 - 1))
    assert read(tools=[fits]).functions[0].description
    with pytest.raises(ApiError):
        read(tools=[fits, function("b", description="12")])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": "weather"}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": 5}}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "function": {"name": "weather"}}, "tools": [function()]}, "tool_choice"),
        ({"tool_choice": chosen("weather")}, "tool_choice.function.name"),
        ({"tool_choice": chosen("other"), "tools": [function()]}, "tool_choice.function.name"),
        ({"tool_choice": chosen("calculator"), "tools": [function()]}, "tool_choice.function.name"),
        ({"tool_choice": CALCULATOR, "tools": [function()]}, "tool_choice"),
        ({"tool_choice": {"type": "weather"}, "tools": [function(), CALCULATOR]}, "tool_choice"),
        ({"tool_choice": {"type": ["calculator"]}, "tools": [CALCULATOR]}, "tool_choice"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert (error.value.status, error.value.param) == (400, param)
