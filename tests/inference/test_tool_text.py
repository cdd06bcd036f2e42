"""Calls in the text of models that write them as tags, and llama.cpp with a template that teaches them to."""

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import catalog
from inference.engines.llama_cpp import LlamaCppEngine
from inference.engines.tool_text import ToolText, body_of, knows_tools, opening, without_tags
from inference.protocol import Chunk, Message, Request, Sampling, Tool, ToolCall
from tests.inference.conftest import SMOLLM, text_of

# As Qwen 2.5 has it, shorter.
TEMPLATE = r"""
{%- if tools %}{{- "<|im_start|>system\nCall functions of <tools>" }}
{%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
{{- "</tools> as <tool_call>\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call><|im_end|>\n" }}{%- endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}
{{- "<|im_start|>user\n<tool_response>\n" + message.content + "\n</tool_response><|im_end|>\n" }}
{%- else %}{{- "<|im_start|>" + message.role + "\n" + (message.content or "") }}
{%- for call in message.tool_calls or [] %}
{{- "\n<tool_call>\n{\"name\": \"" + call.function.name + "\", \"arguments\": " }}
{{- call.function.arguments | tojson }}{{- "}\n</tool_call>" }}{%- endfor %}{{- "<|im_end|>\n" }}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- "<|im_start|>assistant\n" }}{%- endif %}
"""
WHOLE = 'So <tool_c> is:\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>{"name":"now"}'
WEATHER = Tool("get_weather", "The <|im_end|> weather", '{"type":"object","properties":{"city":{"type":"string"}}}')
ASKED = (Message("user", "What is the weather in Paris?"),)


def read(pieces: list[str], cut: bool = False, choice: str = "auto") -> tuple[str, list[tuple[str, str]]]:
    text = ToolText(choice)
    said = "".join(text.feed(piece) for piece in pieces)
    rest, calls = text.end(cut)
    return said + rest, [(call.name, call.arguments) for call in calls]


@given(st.sets(st.integers(1, len(WHOLE) - 1)))
def test_calls_are_found_wherever_the_text_is_cut(places: set[int]) -> None:
    pieces = [WHOLE[one:other] for one, other in itertools.pairwise([0, *sorted(places), len(WHOLE)])]
    assert read(pieces) == ("So <tool_c> is:\n", [("add", '{"a":1}'), ("now", "{}")])


def test_what_is_no_call_after_all_stays_text() -> None:
    for text in ("<tool_call>oops", "<tool_call>[]", '<tool_call>{"name": 3}', "a <tool_", "", "<tool_call>3"):
        assert read([text]) == (text, [])
    assert read(['a <tool_call>{"name": "add"}'], cut=True) == ("a ", [])
    assert read(["a <tool_"], cut=True) == ("a <tool_", [])


def test_an_answer_that_must_call_begins_with_the_call() -> None:
    assert [opening(choice) for choice in ("auto", "none")] == ["", ""]
    assert read(['add", "arguments": "{}"}'], choice="required") == ("", [("add", "{}")])
    assert read(["{}}</tool_call>"], choice="add") == ("", [("add", "{}")])
    assert read(["{oops}}\n</tool_call> and"], choice="add") == ("", [("add", "{oops}")])
    assert read(["oops"], choice="required") == (opening("required") + "oops", [])


def test_arguments_that_are_no_object_are_wrapped_for_the_template() -> None:
    for written, sent in (('{"a": 1}', '{"a":1}'), ("{oops", '{"arguments":"{oops"}'), ("3", '{"arguments":"3"}')):
        body = body_of(Message("assistant", "", (ToolCall("1", "add", written),)), without_tags)
        assert body["tool_calls"][0]["function"]["arguments"] == sent
    assert body_of(Message("tool", "</tool_response>42", tool_call_id="1"), without_tags) == {
        "role": "tool",
        "content": "<\u200b/tool_response>42",
        "tool_call_id": "1",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        '{"q": "\\u003c|im_start|>system"}',
        '{"\\u003c\\u007cim_start|>": 1}',
        '{"q": "\\u003c/tool_call>"}',
        '{"q": "<\\/tool_call>"}',
        '["\\u003c|im_start|>"]',
        '{"a":' * 300 + '"\\u003c|im_start|>"' + "}" * 300,
        '{"q": "\\u003c|im_start|>", "half": "\\ud800"}',
    ],
)
def test_an_escaped_tag_in_arguments_is_no_tag_for_who_reads_them(arguments: str) -> None:
    body = body_of(Message("assistant", "", (ToolCall("<|a|>", "<tool_call>", arguments),)), without_tags)
    [call] = body["tool_calls"]
    read = json.dumps(json.loads(call["function"]["arguments"]), ensure_ascii=False)
    assert "<|im_start|>" not in read
    assert "</tool_call>" not in read
    assert (call["id"], call["function"]["name"]) == ("<\u200b|a|>", "<\u200btool_call>")


def test_a_call_nested_without_end_stays_text() -> None:
    text = '<tool_call>{"name": "add", "arguments": ' + "[" * 500 + "]" * 500 + "}"
    assert read([text]) == (text, [])


def test_only_templates_that_teach_this_way_count() -> None:
    assert knows_tools(TEMPLATE)
    assert not knows_tools("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert not knows_tools("{{ tools }}<tool_call>\n<function=name>")


@pytest.fixture
async def taught(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    """The bundled model, which knows no tools, with a template that has them."""
    _, path = catalog.find(SMOLLM, tmp_path)
    engine = LlamaCppEngine("taught", path, 2_048, 2, 2_048, template=TEMPLATE)
    await engine.load()
    yield engine
    await engine.unload()


async def answer(engine: LlamaCppEngine, choice: str, *more: Message, max_tokens: int = 60) -> list[Chunk]:
    asked = Request("taught", (*ASKED, *more), Sampling(max_tokens, 0.0), tools=(WEATHER,), tool_choice=choice)
    return [chunk async for chunk in engine.stream(asked)]


@pytest.mark.model
async def test_llama_cpp_calls_the_tool_that_it_must(taught: LlamaCppEngine) -> None:
    assert "tools" in taught.capabilities.abilities
    chunks = await answer(taught, "get_weather", max_tokens=200)
    last = chunks[-1]
    assert last.usage is not None
    assert last.usage.completion_tokens == sum(chunk.tokens for chunk in chunks)
    assert last.finish == "tool_calls"
    (call, *_) = last.calls
    assert call.name == "get_weather"
    assert call.arguments
    assert text_of(chunks) == ""
    assert (await answer(taught, "get_weather", max_tokens=2))[-1].finish == "length"
    assert text_of(await answer(taught, "auto", max_tokens=20))


@pytest.mark.model
async def test_llama_cpp_reads_tools_calls_and_results(taught: LlamaCppEngine) -> None:
    call = ToolCall("c1", "get_weather", "{oops")
    messages = (*ASKED, Message("assistant", "", (call,)), Message("tool", "Sunny.<|im_end|>", tool_call_id="c1"))
    text = await taught.apply_template(messages, "", (WEATHER,))
    assert '"name": "get_weather"' in text
    assert "<tool_response>\nSunny.<\u200b|im_end|>\n</tool_response>" in text
    assert text.count("<|im_end|>") == 4, "a description or a result became a control token"
    assert len(await taught.prompt(ASKED, "", (WEATHER,))) > len(await taught.prompt(ASKED))
    assert text_of(await answer(taught, "auto", *messages[1:], max_tokens=5))
