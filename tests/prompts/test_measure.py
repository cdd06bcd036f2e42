"""Bounds that no prompt passes, and estimates that are no more than them."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_app.prompts.measure import Measure, measured
from inference.protocol import EngineDied, Message, Tool, ToolCall
from tests.prompts.engines import Uncounting

texts = st.text() | st.sampled_from(["a" * 9, "ж" * 9, "語" * 9, "🦜" * 9, ""])
BARE = Measure(0, 0, 0)


@given(texts, st.integers(0, 50))
def test_no_token_is_less_than_a_byte(text: str, each: int) -> None:
    measure = Measure(base=5, each=each, tools=0)
    message = Message("user", text)
    assert measure.of_message(message) == each + len(text.encode())
    assert measure.bound([message, message]) == 5 + 2 * measure.of_message(message)
    assert each + len(text) // 4 <= measure.estimate(message) <= measure.of_message(message)


@pytest.mark.parametrize(("text", "tokens"), [("abcd", 2), ("жж", 2), ("語語", 3), ("🦜", 2), ("aж", 2), ("", 0)])
def test_an_estimate_takes_three_letters_or_two_foreign_bytes_for_a_token(text: str, tokens: int) -> None:
    assert BARE.estimate(Message("user", text)) == tokens


def test_half_a_character_is_measured_too() -> None:
    assert BARE.of_message(Message("user", "\ud800")) == 3


def test_a_call_takes_room_with_all_that_belongs_to_it() -> None:
    call = Message("assistant", "", (ToolCall("id", "add", '{"é": 1}'),))
    written = json.dumps({"id": "id", "name": "add", "arguments": json.dumps({"é": 1})})
    for measure in (BARE.of_message, BARE.estimate):
        assert measure(call) > len(written)
        assert measure(Message("assistant", "", call.tool_calls * 2)) == 2 * measure(call)
        assert measure(Message("tool", "5", tool_call_id="id")) > measure(Message("tool", "5"))


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_a_tool_takes_as_much_as_its_widest_form(name: str, description: str, schema: dict[str, str]) -> None:
    function = {"name": name, "description": description, "parameters": schema}
    widest = json.dumps([{"type": "function", "function": function}], indent=4)
    tool = Tool(name, description, json.dumps(schema))
    assert BARE.of_tools([tool]) > len(widest)
    assert BARE.of_tools([tool, tool]) == 2 * BARE.of_tools([tool])


@pytest.mark.parametrize("parameters", ["{", '{"a": ' * 5_000 + "1" + "}" * 5_000])
def test_a_tool_whose_parameters_cannot_be_read_is_measured_by_its_bytes(parameters: str) -> None:
    assert BARE.of_tools([Tool("t", "", parameters)]) > 3 * len(parameters)


def test_no_tools_take_no_room() -> None:
    assert Measure(0, 0, 700).of_tools(()) == 0
    assert Measure(0, 0, 700).of_tools([Tool("t")]) > 700


def template(base: int, system: int, user: int, assistant: int, own: int):  # type: ignore[no-untyped-def]
    """Many templates put words of their `own` where no system prompt is given."""
    each = {"system": system, "user": user, "assistant": assistant}

    async def count(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        has_system = messages[:1] and messages[0].role == "system"
        begin = base if has_system else base + own
        return begin + sum(each[message.role] + len(message.content) for message in messages)

    return count


@example((2, 5, 5, 5, 40), [Message("user", "a")] * 6, False)
@given(
    st.tuples(*[st.integers(0, 40)] * 5),
    st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), st.text("ab", max_size=9))),
    st.booleans(),
)
async def test_what_was_measured_bounds_every_conversation(
    adds: tuple[int, ...], said: list[Message], has_system: bool
) -> None:
    count = template(*adds)
    measure = await measured(count)
    said = [Message("system", "be kind"), *said] if has_system else said
    assert await count(said, ()) <= measure.bound(said)


async def test_three_counts_measure_a_model() -> None:
    asked = 0

    async def counting(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        nonlocal asked
        asked += 1
        return 10 + 4 * len(messages)

    assert await measured(counting) == Measure(base=14, each=8)
    assert asked == 3


async def test_without_an_engine_that_counts_the_widest_template_is_assumed() -> None:
    assert await measured(Uncounting()) == Measure()
    assert Measure().base >= 200
    assert Measure().each >= 10


async def test_an_engine_that_is_away_is_not_measured() -> None:
    async def dead(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        raise EngineDied("gone")

    with pytest.raises(EngineDied):
        await measured(dead)
