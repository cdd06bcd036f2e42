"""The edges of every field of a completion: the last value that is taken, and the first that is refused."""

from typing import Any

import orjson
import pytest

from chat_app.gateway.completion_request import CompletionRequest, read_completion
from chat_app.gateway.errors import ApiError
from inference.protocol import Sampling

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def read(**fields: Any) -> CompletionRequest:
    return read_completion(orjson.dumps({**HELLO, **fields}))


@pytest.mark.parametrize(
    ("field", "least", "most", "below", "above"),
    [
        ("max_tokens", 1, None, 0, None),
        ("max_completion_tokens", 1, None, 0, None),
        ("temperature", 0, 2, -0.01, 2.01),
        ("top_p", 0.01, 1, 0, 1.01),
        ("seed", -(2**63), 2**63 - 1, None, 2**63),
        ("presence_penalty", -2, 2, -2.01, 2.01),
        ("frequency_penalty", -2, 2, -2.01, 2.01),
        ("top_k", -1, 2**31 - 1, -2, 2**31),
        ("min_p", 0, 1, -0.01, 1.01),
        ("typical_p", 0.01, 1, 0, 1.01),
        ("repetition_penalty", 0.01, 10, 0, 10.01),
        ("stop", "x", "x" * 200, "", "x" * 201),
        ("stop", [], ["x"] * 4, None, ["x"] * 5),
        ("user", "", "u" * 512, None, "u" * 513),
    ],
)
def test_the_edges_are_taken_and_what_is_past_them_is_refused(
    field: str, least: Any, most: Any, below: Any, above: Any
) -> None:
    for taken in (least, most):
        if taken is not None:
            read(**{field: taken})
    for refused in (below, above):
        if refused is not None:
            with pytest.raises(ApiError) as error:
                read(**{field: refused})
            assert error.value.param is not None and error.value.param.partition("[")[0] == field


def test_of_two_limits_the_newer_name_counts() -> None:
    assert read(max_tokens=5, max_completion_tokens=9).sampling.max_tokens == 9
    assert read(max_tokens=9, max_completion_tokens=5).sampling.max_tokens == 5
    assert read(max_tokens=5).sampling.max_tokens == 5


def test_what_is_left_out_has_the_defaults_of_the_engine() -> None:
    assert read().sampling == Sampling(max_tokens=0)


def test_zero_is_a_value_and_not_left_out() -> None:
    sampling = read(temperature=0, min_p=0, seed=0).sampling
    assert (sampling.temperature, sampling.min_p, sampling.seed) == (0, 0, 0)
    assert read(top_p=0.5).sampling.top_p == 0.5
    assert read(top_k=7).sampling.top_k == 7
    assert read(top_k=-1).sampling.top_k == 0


@pytest.mark.parametrize("name", ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar"])
def test_every_guide_that_we_do_not_follow_is_refused_by_name(name: str) -> None:
    with pytest.raises(ApiError) as error:
        read(**{name: "x"})
    assert (error.value.code, error.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize("stream", [None, False])
def test_stream_options_need_a_stream(stream: bool | None) -> None:
    with pytest.raises(ApiError) as error:
        read(stream=stream, stream_options={"include_usage": True})
    assert error.value.param == "stream_options"
    assert not read(stream=True, stream_options={}).include_usage
    assert not read(stream=True, stream_options={"include_usage": False}).include_usage
