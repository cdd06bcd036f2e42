"""Reading a chat completion: what is taken, what is ignored, what is refused and in which words."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_app.gateway.completion_request import CompletionRequest, read_completion
from chat_app.gateway.errors import ApiError
from inference.protocol import Message, Sampling

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def read(**fields: Any) -> CompletionRequest:
    return read_completion(orjson.dumps({**HELLO, **fields}))


def refusal(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        read_completion(raw)
    assert error.value.status == 400
    return error.value


def test_the_least_that_is_needed() -> None:
    wanted = read()
    assert wanted.messages == (Message("user", "Hello"),)
    assert (wanted.model, wanted.stream, wanted.include_usage, wanted.sampling.max_tokens) == ("", False, False, 0)


def test_everything_that_is_taken() -> None:
    wanted = read(
        model="m",
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=7,
        temperature=0,
        top_p=1,
        seed=-3,
        stop="END",
        presence_penalty=1,
        frequency_penalty=-0.5,
        top_k=-1,
        min_p=0.1,
        typical_p=0.9,
        repetition_penalty=1.1,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}},
        user="u-1",
        n=1,
    )
    sampling = wanted.sampling
    assert (wanted.model, wanted.stream, wanted.include_usage) == ("m", True, True)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (7, 0, 1, -3)
    assert (sampling.stop, sampling.presence_penalty, sampling.frequency_penalty) == (("END",), 1, -0.5)
    assert (sampling.top_k, sampling.min_p, sampling.json_schema) == (0, 0.1, '{"type":"null"}')
    assert (sampling.typical_p, sampling.repetition_penalty) == (0.9, 1.1)


def test_of_two_limits_the_newer_field_counts() -> None:
    assert read(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7
    assert read(max_tokens=7, max_completion_tokens=5).sampling.max_tokens == 5
    assert read(max_tokens=5).sampling.max_tokens == 5


def test_what_is_not_said_is_as_the_engine_has_it() -> None:
    plain = Sampling(max_tokens=0)
    assert read().sampling == plain
    nothing = ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "top_k", "presence_penalty", "seed")
    assert read(**dict.fromkeys(nothing)).sampling == plain


def test_content_in_parts_and_the_developers_role() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo\n🦜"}]
    messages = [{"role": "developer", "content": "Be brief"}, {"role": "user", "content": parts, "name": "ada"}]
    assert read(messages=messages).messages == (Message("system", "Be brief"), Message("user", "Hello\n🦜"))


def test_harmless_fields_are_ignored() -> None:
    wanted = read(
        store=True,
        metadata={"a": "b"},
        service_tier="auto",
        parallel_tool_calls=False,
        tools=[],
        tool_choice="auto",
        logprobs=False,
        logit_bias={},
        response_format={"type": "text"},
        modalities=["text"],
        something_new={"x": 1},
        n=None,
        stop=None,
        temperature=None,
        functions=[],
    )
    assert wanted == read()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("n", 1.5),
        ("functions", [{"name": "f"}]),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("web_search_options", {}),
        ("guided_json", {"type": "object"}),
    ],
)
def test_what_would_change_the_meaning_is_refused(field: str, value: Any) -> None:
    error = refusal(orjson.dumps({**HELLO, field: value}))
    assert (error.code, error.param) == ("unsupported_parameter", field)
    assert field in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["text"]}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [*HELLO["messages"], {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [*HELLO["messages"], {"role": "system", "content": "x"}]}, "messages[1].role"),
        ({"messages": HELLO["messages"] * 2_001}, "messages"),
        ({"model": 5}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"typical_p": 0}, "typical_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"user": "x" * 513}, "user"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"maxItems": 10**9}}}},
            "response_format",
        ),
        ({"top_p": 0}, "top_p"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": 5}, "stop"),
        ({"presence_penalty": -3}, "presence_penalty"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    error = refusal(json.dumps({**HELLO, **fields}).encode())
    assert (error.code, error.param) == ("bad_input", param)
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    "raw", [b"", b"  ", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"messages": NaN}', b'"\\ud800"', b"[" * 100_000]
)
def test_what_is_no_json_object_is_said(raw: bytes) -> None:
    assert refusal(raw).code == "invalid_json"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("model", "stream", "stream_options", "stop", "seed", "n", "tools", "tool_choice", "max_tokens", "user")
_MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"])},
    optional={"content": _json, "tool_calls": _json, "tool_call_id": _json},
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(_FIELDS), _json), st.lists(_MESSAGE, max_size=3) | _json)
def test_whatever_comes_is_read_or_refused_with_400(fields: dict[str, Any], messages: Any) -> None:
    try:
        read_completion(json.dumps({**fields, "messages": messages}).encode())
    except ApiError as error:
        assert error.status == 400
        assert error.message
