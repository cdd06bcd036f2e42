"""An answer in OpenAI's shape, as OpenAI's own types read it."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from chat_app.data.log.entries import Entry, encode
from chat_app.gateway.completion_shape import Shape, finish_reason, usage_of
from chat_app.sessions.generations import GenerationView
from chat_app.sessions.viewer import Update


def call(id: str, arguments: str, *, built_in: bool = False) -> Entry:
    return Entry("tool_call", data={"id": id, "name": "weather", "arguments": arguments, "built_in": built_in})


ENTRIES = [
    Entry("reasoning", "Let me "),
    Entry("reasoning", "see."),
    Entry("text", "One “moment”.\n"),
    call("a", '{"sum": "1+1"}', built_in=True),
    Entry("tool_result", data={"id": "a", "content": "2"}),
    Entry("status", data={"anything": 1}),
    Entry("sealed", data={"seq": 1, "finish": "tool_calls", "usage": {}}),
    call("b", '{"city": "Łódź"}'),
    call("c", "not even JSON"),
    Entry("text", "Done."),
]
CALLS = [("b", "weather", '{"city": "Łódź"}'), ("c", "weather", "not even JSON")]


def view(status: str = "done", finish: str = "stop") -> GenerationView:
    receipt = {"finish": finish}
    return GenerationView("g", status, "api", "m", None, None, 7, 3, 2, 0, "", receipt, 0)


def update(*entries: Entry, offset: int = 0) -> Update:
    return Update(offset, entries, offset + len(encode(entries)))


def chunks(raw: bytes) -> list[ChatCompletionChunk]:
    events = raw.decode().split("\n\n")
    assert events.pop() == ""
    data = [event.rpartition("data: ")[2] for event in events]
    read = [ChatCompletionChunk.model_validate_json(one, strict=True) for one in data]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in read} <= {("chatcmpl-g", 5, "m")}
    return read


def test_a_model_that_stands_in_is_named() -> None:
    entries = [Entry("status", data={"model": "other"}), Entry("text", "Here.")]
    shape = Shape("g", "m", 5)
    [chunk] = shape.chunks(update(*entries)).decode().split("\n\n")[:-1]
    models = [json.loads(part.partition("data: ")[2])["model"] for part in (chunk, shape.opening().decode())]
    whole = json.loads(Shape("g", "m", 5).whole(entries, "stop", {}))
    assert [*models, whole["model"]] == ["other"] * 3


def test_chunks_say_what_is_for_the_program_and_nothing_else() -> None:
    deltas: list[dict[str, Any]] = [
        chunk.choices[0].delta.model_dump(exclude_unset=True)
        for chunk in chunks(Shape("g", "m", 5).chunks(update(*ENTRIES)))
    ]
    assert deltas == [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"content": "One “moment”.\n"},
        {"tool_calls": [{"index": 0, "id": "b", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Łódź"}'}}]},
        {"tool_calls": [{"index": 1, "id": "c", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "not even JSON"}}]},
        {"content": "Done."},
    ]


def test_calls_are_counted_over_updates() -> None:
    shape = Shape("g", "m", 5)
    for index, entry in enumerate((call("a", ""), call("b", ""))):
        first = chunks(shape.chunks(update(entry)))[0].choices[0].delta.tool_calls
        assert first is not None
        assert first[0].index == index


def test_what_is_not_for_the_program_makes_no_chunk() -> None:
    assert Shape("g", "m", 5).chunks(update(*ENTRIES[3:7])) == b""


def ids(raw: bytes) -> list[int | None]:
    events = [event.split("\n") for event in raw.decode().removesuffix("\n\n").split("\n\n")]
    assert all([field.partition(": ")[0] for field in fields] in (["data"], ["id", "data"]) for fields in events)
    return [int(fields[0].removeprefix("id: ")) if len(fields) > 1 else None for fields in events]


def test_a_chunk_has_the_offset_behind_its_entry_as_its_id() -> None:
    shape = Shape("g", "m", 5)
    assert ids(shape.chunks(update(Entry("text", "Łódź"), offset=7))) == [11]
    log = [encode(ENTRIES[: n + 1]) for n in range(len(ENTRIES))]
    behind = [len(log[n]) + 7 for n in (0, 1, 2, 7, 8, 9)]
    # A call is two chunks and one entry: nobody can go on between them.
    one, two, three, four, five, six = behind
    assert ids(shape.chunks(update(*ENTRIES, offset=7))) == [one, two, three, None, four, None, five, six]


def test_the_frame_of_a_stream() -> None:
    shape = Shape("g", "m", 5)
    [opening] = chunks(shape.opening())
    assert opening.choices[0].delta.model_dump(exclude_unset=True) == {"role": "assistant", "content": ""}
    [closing] = chunks(shape.closing("tool_calls"))
    assert (closing.choices[0].finish_reason, closing.choices[0].delta.content) == ("tool_calls", None)
    [usage] = chunks(shape.usage(usage_of(view())))
    assert usage.choices == [] and usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens, usage.usage.total_tokens) == (7, 3, 10)


def whole(entries: list[Entry]) -> Any:
    raw = Shape("g", "m", 5).whole(entries, "tool_calls", usage_of(view()))
    assert ChatCompletion.model_validate_json(raw, strict=True).choices[0].finish_reason == "tool_calls"
    return json.loads(raw)["choices"][0]["message"]


def test_a_whole_answer_says_the_same() -> None:
    message = whole(ENTRIES)
    assert (message["content"], message["reasoning_content"]) == ("One “moment”.\nDone.", "Let me see.")
    said = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]
    assert said == CALLS
    assert {c["type"] for c in message["tool_calls"]} == {"function"}


def test_a_whole_answer_has_no_field_without_need() -> None:
    assert whole([]) == {"role": "assistant", "content": "", "refusal": None}
    assert whole([call("a", "", built_in=True)]) == {"role": "assistant", "content": "", "refusal": None}
    message = whole([call("b", "{}")])
    assert message["content"] is None
    assert "reasoning_content" not in message


@pytest.mark.parametrize(
    ("status", "finish", "reason"),
    [
        ("done", "stop", "stop"),
        ("done", "length", "length"),
        ("done", "tool_calls", "tool_calls"),
        ("stopped", "stopped", "stop"),
        ("refused", "length", "content_filter"),
    ],
)
def test_how_it_ended_in_openais_words(status: str, finish: str, reason: str) -> None:
    assert finish_reason(status, finish) == reason
