"""The list of events: every handler that is registered is on it, or refused by name; and it is what pages send."""

import inspect
import re

import pytest
from reflex_base.registry import RegistrationContext

import chat_app.chat_app  # noqa: F401 - registers every state.
from chat_app.ui.build import build
from chat_app.ui.guard import message
from chat_app.ui.guard.arguments import Beginning, Form, Refused, Stored, Text, Texts
from chat_app.ui.guard.events import BOOT, FROM_PAGES, REPORT, REPORT_CHARS, every_state, name_of
from chat_app.ui.state.chat import Chat

# Only the server runs these: as a page opens, as one event leads to another, or never.
REFUSED = {
    "State.hydrate",
    "State.set_is_hydrated",
    "OnLoadInternalState.set_is_hydrated",
    "Visitor.notify",
    "Login.open",
    "Account.open",
    "PlanAdmin.open",
    "Profile.open",
    "SecondFactor.open",
    "ReviewAdmin.open",
    "AuditAdmin.open",
    "Chat.open",
    "Chat.leave",
    "Chat.refresh_threads",
    "Chat.follow",
    "Chat.watch_queue",
    "Chat.watch_engine",
    "Chat.warm_model",
} | {f"{state.__name__}.setvar" for state in every_state()}


def registered() -> dict[str, str]:
    """Every handler that Reflex would run, by its full name; as a person writes it."""
    return {
        name: f"{entry.states[0].__name__}.{name.rpartition('.')[2]}"
        for name, entry in RegistrationContext.get().event_handlers.items()
    }


def test_every_handler_is_listed_or_refused_by_name() -> None:
    neither = {short for name, short in registered().items() if name not in FROM_PAGES and short not in REFUSED}
    both = {short for name, short in registered().items() if name in FROM_PAGES and short in REFUSED}
    assert (neither, both) == (set(), set())


def test_what_is_listed_exists_and_takes_the_arguments_that_are_bounded() -> None:
    handlers = RegistrationContext.get().event_handlers
    for name, rule in FROM_PAGES.items():
        assert rule.arguments.keys() == set(list(inspect.signature(handlers[name].handler.fn).parameters)[1:]), name


@pytest.mark.parametrize("name", FROM_PAGES)
def test_an_event_without_what_its_handler_needs_reaches_nobody(name: str) -> None:
    handler = RegistrationContext.get().event_handlers[name].handler.fn
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    needed = {each.name for each in parameters if each.default is each.empty}
    assert FROM_PAGES[name].required == needed
    if needed:
        for payload in (None, {}):
            with pytest.raises(Refused):
                message.read({"name": name, "payload": payload})
    else:
        assert message.read({"name": name})["payload"] == {}


@pytest.mark.e2e
def test_the_list_is_what_the_built_pages_send() -> None:
    scripts = "".join(file.read_text() for file in (build() / "build" / "client").rglob("*.js"))
    called = set(re.findall(r"reflex___state____state[\w.]*\.\w+", scripts)) & registered().keys()
    assert called == FROM_PAGES.keys()


@pytest.mark.parametrize("length", [0, REPORT_CHARS, 23_680])
def test_a_report_is_no_longer_than_reflex_can_search(length: int) -> None:
    [name] = [name for name in FROM_PAGES if name.endswith("handle_frontend_exception")]
    read = message.read({"name": name, "payload": {"info": "a" * length, "component_stack": "b" * length}})
    assert read["payload"] == {"info": "a" * min(length, REPORT_CHARS), "component_stack": ""}


@pytest.mark.parametrize(
    ("name", "payload"),
    [(REPORT, {}), (REPORT, {"info": "a"}), (name_of(Chat.send), None), (name_of(Chat.ask_rename), {"title": "a"})],
)
def test_an_event_that_lacks_an_argument_does_not_run(name: str, payload: object) -> None:
    with pytest.raises(Refused):
        message.read({"name": name, "payload": payload})


def test_of_the_browsers_storage_only_what_is_ours_is_taken() -> None:
    tz = "reflex___state____state.chat_app___ui___state___visitor____visitor.tz_rx_state_"
    sent = {tz: "Europe/Paris", "reflex___state____state.is_hydrated": "x", "no.such": "x"}
    assert message.read({"name": BOOT, "payload": {"vars": sent, "hashes": None}})["payload"] == {
        "vars": {tz: "Europe/Paris"},
        "hashes": None,
    }
    for hostile in ({tz: "x" * 101}, {tz: 7}, [tz], "text"):
        with pytest.raises(Refused):
            message.read({"name": BOOT, "payload": {"vars": hostile}})


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}, b"bytes"])
def test_a_text_is_a_text(value: object) -> None:
    for kind in (Text(10), Beginning(10)):
        with pytest.raises(Refused):
            kind.read(value)


@pytest.mark.parametrize("odd", ["a\0b", "\ud800", "x\udfffx"])
def test_a_text_that_no_database_can_hold_is_for_the_turn_alone(odd: str) -> None:
    with pytest.raises(Refused):
        Text(10).read(odd)
    assert Text(10, odd=True).read(odd) == odd


def test_bounds_are_inclusive() -> None:
    assert Text(3).read("abc") == Beginning(3).read("abcd") == "abc"
    with pytest.raises(Refused, match="4 characters; at most 3"):
        Text(3).read("abcd")
    assert Texts(1, Text(1)).read(["a"]) == ["a"]
    for hostile in (["a", "b"], ["ab"], "a", {"a": 1}):
        with pytest.raises(Refused):
            Texts(1, Text(1)).read(hostile)


def test_a_forms_fields_come_as_pairs_or_as_a_mapping() -> None:
    form = Form({"text": Text(5)})
    assert form.read({"text": "hello", "extension": "x" * 100}) == {"text": "hello"}
    assert form.read({"__reflex_form_data__": [["text", "a"], ["text", "b"], ["other", []]]}) == {"text": "b"}
    hostile = ([], "text", None, {"text": None}, {"text": "longer"}, {str(at): "" for at in range(21)})
    pairs = ([["text"]], [[1, "a"]], "ab", {"a": "b"}, [["text", "a", "b"]], [["text", "a"]] * 21, [7])
    for sent in (*hostile, *({"__reflex_form_data__": each} for each in pairs)):
        with pytest.raises(Refused):
            form.read(sent)


def test_nothing_is_stored_of_names_that_are_not_known() -> None:
    stored = Stored(lambda: frozenset({"a"}), Text(1))
    assert stored.read({"a": "1", "b": "2" * 1000}) == {"a": "1"}
    assert stored.read({"a": None}) == stored.read(None) == {}
