"""Logs never hold content, credentials or addresses, whoever writes them and however they arrive."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from sqlalchemy.exc import StatementError

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.telemetry.logs import CONTENT_FIELDS, configure
from tests.safety.keys import KEYS


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("debug", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_object_a_line(stream: io.StringIO) -> None:
    structlog.get_logger("chat_app.turn").info("turn ended", generation="0" * 32, tokens=12, ok=True, none=None)
    [line] = lines(stream)
    assert line["event"] == "turn ended" and line["level"] == "info" and line["logger"] == "chat_app.turn"
    assert (line["generation"], line["tokens"], line["ok"], line["none"]) == ("0" * 32, 12, True, None)
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("field", sorted(CONTENT_FIELDS))
def test_fields_that_hold_content_are_emptied(stream: io.StringIO, field: str) -> None:
    structlog.get_logger().info("said", **{field: "my deepest secret", field.upper(): ["my deepest secret"]})
    assert "deepest" not in stream.getvalue()
    assert lines(stream)[0][field] == "[withheld: 17]"


def test_nested_content_is_emptied(stream: io.StringIO) -> None:
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": "my deepest secret"}],
        "more": {"text": "deepest"},
    }
    structlog.get_logger().info("asked", request=request, deep={"a": {"b": {"c": {"text": "deepest"}}}})
    assert "deepest" not in stream.getvalue()
    assert lines(stream)[0]["request"]["model"] == "m"  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "text",
    [
        "mail from somebody@example.org came",
        "Authorization: Bearer hidden-part-of-it",
        "password=hidden-part-of-it",
        "cannot reach postgresql://parley:hidden-part-of-it@db:5432/parley",
        *(f"got {KEYS[kind]}" for kind in ("aws_access_key", "github_token", "anthropic_key", "stripe_key", "jwt")),
    ],
)
def test_credentials_and_addresses_are_masked_anywhere(stream: io.StringIO, text: str) -> None:
    structlog.get_logger().warning(text, error=text, items=[text])
    logging.getLogger("some.library").warning("%s", text)
    written = stream.getvalue()
    assert "hidden-part" not in written and "somebody@" not in written
    assert all(key not in written for key in KEYS.values())


def test_long_values_are_cut(stream: io.StringIO) -> None:
    structlog.get_logger().info("long " + "y" * 5_000, error="x" * 5_000)
    [line] = lines(stream)
    assert len(str(line["error"])) < 250 and "5000 characters" in str(line["error"])
    assert len(str(line["event"])) < 450


def test_an_exception_keeps_its_type_and_place_not_its_words(stream: io.StringIO) -> None:
    def inner() -> None:
        try:
            raise ValueError("the text was: my deepest secret")
        except ValueError as error:
            raise StatementError("failed", "INSERT", {"content": "my deepest secret"}, error) from error

    try:
        inner()
    except StatementError as error:
        structlog.get_logger().exception("could not store")
        logging.getLogger("library").error("could not store", exc_info=True)
        structlog.get_logger().error("could not store", error=error)
    assert "deepest" not in stream.getvalue() and "INSERT" not in stream.getvalue()
    ours, theirs, given = lines(stream)
    for line in (ours, theirs):
        assert line["error_type"] == "sqlalchemy.exc.StatementError < builtins.ValueError"
        assert str(line["error_at"][-1]).endswith(" inner")  # type: ignore[index]
    assert given["error"] == "sqlalchemy.exc.StatementError < builtins.ValueError"


def test_our_own_exceptions_and_the_systems_keep_their_words(stream: io.StringIO) -> None:
    for error in (DatabaseUnavailable("the disk is full"), OSError(28, "No space left on device")):
        try:
            raise error
        except Exception:
            structlog.get_logger().exception("trouble")
    ours, system = lines(stream)
    assert ours["error_type"] == "chat_app.data.db.base.DatabaseUnavailable: the disk is full"
    assert "No space left on device" in str(system["error_type"])


def test_what_libraries_attach_is_cleaned(stream: io.StringIO) -> None:
    logging.getLogger("library").warning("request", extra={"body": "my deepest secret", "status": 200})
    [line] = lines(stream)
    assert line["body"] == "[withheld: 17]" and line["status"] == 200


def test_context_is_bound(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().info("inside")
    assert lines(stream)[0]["request_id"] == "r-1"


def test_level_and_chatty_libraries(stream: io.StringIO) -> None:
    configure("warning", stream=stream)
    structlog.get_logger().info("not shown")
    logging.getLogger("httpx").info("not shown")
    structlog.get_logger().warning("shown")
    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_text_for_a_terminal_is_cleaned_alike(stream: io.StringIO) -> None:
    configure("info", stream=stream, as_json=False)
    structlog.get_logger().info("hello", text="my deepest secret", tokens=3)
    written = stream.getvalue()
    assert "hello" in written and "deepest" not in written and "withheld" in written


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_stranger_wrote_cannot_command_a_terminal(stream: io.StringIO, as_json: bool) -> None:
    configure("info", stream=stream, as_json=as_json)
    structlog.get_logger().info(
        "broke: \r\x1b[2K\n  Set-up code: AAAA\x1b]52;c;aGk=\x07\x9b1m\u202e", path="/a\nb\x1b[1m"
    )
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert not any(sign in written for sign in ("\r", "[2K\n", "\x1b]", "\x1b[2K", "\x07", "\x9b", "\u202e", "\\u001b"))
    assert "broke: " in written and "AAAA" in written
