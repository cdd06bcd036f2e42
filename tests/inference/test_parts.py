"""The small parts: what a prompt needs, stop strings, SSE, scripts, the catalogue."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import catalog
from inference.catalog import Damaged, Model
from inference.engines.script import script
from inference.engines.scripted import scripted_text
from inference.protocol import BadRequest, Message, ModelNotFound, Tool, ToolCall, needs_tools
from inference.sse import Events
from inference.stops import StopFilter
from tests.inference.conftest import EMPTY_GGUF

HELLO = Message("user", "Hello")
CALLING = Message("assistant", "", (ToolCall("c", "weather", "{}"),))
RESULT = Message("tool", "rain", tool_call_id="c")


@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        ([HELLO], [Tool("weather")]),
        ([HELLO, CALLING, RESULT], []),
        ([HELLO, RESULT], []),
        ([HELLO, CALLING, HELLO], []),
    ],
)
def test_tools_calls_and_results_need_a_model_that_calls(messages: list[Message], tools: list[Tool]) -> None:
    assert needs_tools(messages, tools)


def test_a_plain_conversation_needs_no_tools() -> None:
    assert not needs_tools([HELLO, Message("assistant", "Hi"), HELLO], [])


@given(st.text("ab<", max_size=30), st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_cut_as_if_the_text_came_at_once(text: str, stops: list[str], data: st.DataObject) -> None:
    filter_, out, at = StopFilter(stops), "", 0
    while at < len(text) and not filter_.hit:
        size = data.draw(st.integers(1, 5))
        out += filter_.feed(text[at : at + size])
        at += size
        said = text[:at]
        assert said.startswith(out)
    out += filter_.end()
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if filter_.hit:
        # Of two stop strings that overlap, the one that was complete first wins.
        assert len(out) in found
    else:
        assert (out, found) == (text, [])
    assert not any(stop in out for stop in stops)


@given(
    st.lists(st.text(max_size=8).map(lambda s: s.replace("\n", "").replace("\r", "").strip()), max_size=6), st.data()
)
def test_events_are_the_same_however_they_are_cut(payloads: list[str], data: st.DataObject) -> None:
    whole = b"".join(b": ping\n\ndata: %b\n\n" % payload.encode() for payload in payloads)
    events, got, at = Events(), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        got += events.feed(whole[at : at + size])
        at += size
    assert got == [payload.encode().strip() for payload in payloads]


def test_a_script_is_a_pure_function() -> None:
    directive = {"tokens": 300, "rate": 50, "seed": 7, "die_at": 120}
    assert scripted_text(directive) == scripted_text({"tokens": 300, "seed": 7})
    assert scripted_text(directive) != scripted_text({"tokens": 300, "seed": 8})
    assert scripted_text({"tokens": 300, "seed": 7}).startswith(scripted_text({"tokens": 200, "seed": 7}))
    assert len(script(directive).pieces) == 300
    assert hashlib.sha256(scripted_text(directive).encode()).hexdigest()[:16] == "b16c68dd00795daf"


@given(st.text(max_size=60))
def test_a_script_with_a_text_says_that_text(text: str) -> None:
    assert scripted_text({"text": text}) == text


@pytest.mark.parametrize("directive", [{"speed": 3}, {"tokens": -1}, {"rate": "fast"}])
def test_a_script_that_means_nothing_is_refused(directive: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        script(directive)


def write(path: Path, content: bytes = EMPTY_GGUF + b"rest of it") -> tuple[Path, str]:
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def test_a_verified_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, digest = write(tmp_path / "m.gguf")
    model = Model("m", "m.gguf", digest)
    stamps = tmp_path / "deep" / "stamps.json"
    catalog.verify(model, path, stamps)

    def never(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", never)
        catalog.verify(model, path, stamps)
        path.write_bytes(EMPTY_GGUF + b"something else")
        with pytest.raises(AssertionError):
            catalog.verify(model, path, stamps)
    with pytest.raises(Damaged, match="should be"):
        catalog.verify(model, path, stamps)
    stamps.write_text("no json")
    with pytest.raises(Damaged):
        catalog.verify(model, path, stamps)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "m.gguf", b"<html>")
    with pytest.raises(Damaged, match="not a whole GGUF"):
        catalog.verify(Model("m", "m.gguf"), path)
    with pytest.raises(Damaged, match="cannot be read"):
        catalog.verify(Model("m", "m.gguf"), tmp_path / "gone.gguf")


def test_models_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    model, path = catalog.find("smollm2-135m-instruct", tmp_path)
    catalog.verify(model, path)
    assert [model.id for model, _ in catalog.present(tmp_path)] == ["smollm2-135m-instruct"]
    with pytest.raises(ModelNotFound, match="missing"):
        catalog.find("qwen2.5-coder-1.5b-instruct", tmp_path)
    write(tmp_path / catalog.KNOWN[1].file)
    assert len(list(catalog.present(tmp_path))) == 2
    assert catalog.find(str(tmp_path / catalog.KNOWN[1].file), tmp_path)[0].sha256
    mine, _ = write(tmp_path / "Mine.gguf")
    assert catalog.find(str(mine), tmp_path)[0].id == "mine"
    with pytest.raises(ModelNotFound, match="smollm2"):
        catalog.find("gpt-9", tmp_path)
    with pytest.raises(ModelNotFound, match="does not exist"):
        catalog.find(str(tmp_path / "gone.gguf"), tmp_path)
