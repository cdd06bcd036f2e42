"""The entries of an answer as events: every one at its place, so that a broken connection goes on exactly."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat_app.data.log.entries import Decoder, Entry, encode
from chat_app.gateway.generation_shape import events_of, typed
from chat_app.safety.verdict import Verdict
from chat_app.sessions.viewer import Update
from chat_app.turn.seal import Sealed

CALL = Entry("tool_call", data={"id": "a", "name": "weather", "arguments": "{}", "built_in": False})


def parsed(raw: bytes) -> list[tuple[str, int | None, dict[str, Any]]]:
    """Name, id and data of each event."""
    events = raw.decode().split("\n\n")
    assert events.pop() == ""
    found = []
    for event in events:
        fields = dict(field.split(": ", 1) for field in event.split("\n"))
        assert set(fields) <= {"event", "id", "data"}
        place = int(fields["id"]) if "id" in fields else None
        found.append((fields.get("event", ""), place, json.loads(fields["data"])))
    return found


def update(offset: int, *entries: Entry) -> Update:
    return Update(offset, entries, offset + len(encode(entries)))


def test_text_is_as_it_always_was() -> None:
    assert events_of(update(3, Entry("text", "Łódź"))) == 'id: 7\ndata: {"offset":3,"text":"Łódź"}\n\n'.encode()


def test_nothing_is_nothing() -> None:
    assert events_of(Update(3, (), 3)) == events_of(Update(3, (), 3, "done")) == b""


def test_every_kind_has_its_name_and_its_place() -> None:
    thought, size = Entry("reasoning", "Hm\n"), len(encode([CALL]))
    assert parsed(events_of(update(5, Entry("text", "ab"), CALL, thought))) == [
        ("", 7, {"offset": 5, "text": "ab"}),
        ("tool_call", 7 + size, {"offset": 7, "tool_call": CALL.data}),
        ("reasoning", 7 + size + 6, {"offset": 7 + size, "reasoning": "Hm\n"}),
    ]


_PLAIN = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=5)
_ENTRY = st.one_of(
    st.builds(Entry, st.just("text"), _PLAIN),
    st.builds(Entry, st.just("reasoning"), _PLAIN),
    st.builds(lambda name: Entry("tool_call", data={"name": name}), _PLAIN),
)


@given(st.lists(_ENTRY, min_size=1, max_size=5), st.integers(0, 50))
def test_each_id_is_the_place_of_the_next_event(entries: list[Entry], offset: int) -> None:
    log = "x" * offset + encode(entries)
    at, seen = offset, []
    for _, place, data in parsed(events_of(update(offset, *entries))):
        assert data.pop("offset") == at
        assert place is not None
        [entry] = Decoder().feed(log[at:place])
        assert typed(entry) == data
        at = place
        seen.append(data)
    assert at == len(log)
    assert seen == list(map(typed, entries))


def test_where_an_unknown_entry_was_left_out_only_the_end_is_a_place_to_go_on_from() -> None:
    left_out = Update(0, (Entry("text", "ab"), Entry("text", "cd")), 11)
    assert [place for _, place, _ in parsed(events_of(left_out))] == [None, 11]
    assert [place for _, place, _ in parsed(events_of(Update(0, (Entry("text", "ab"),), 11)))] == [11]


def test_of_a_seal_only_the_step_and_its_tokens_are_shown() -> None:
    sealed = Sealed(2, "m", "refused", 7, 3, 1, blocked=Verdict("output", "secret", "the.rule", "no"))
    shown = {"seq": 2, "model": "m", "finish": "refused"}
    tokens = {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 1}
    assert typed(sealed.entry()) == {"sealed": {**shown, **tokens}}
