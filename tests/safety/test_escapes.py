"""What JSON text says, whichever way its letters are written."""

import json

import pytest

from chat_app.safety.escapes import DEEPEST, unescaped

TEXTS = (
    "plain",
    'quoted "twice"',
    "a/b\\c",
    "line\nline\r\n\ttab",
    "C:\\new\\users\\x41",
    "naïve 👩‍👩‍👧 例",
    "",
    "\\",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_string_of_json_is_read_as_json_reads_it(text: str) -> None:
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False), _coded(text)):
        read = unescaped(written)
        assert read == unescaped(f'"{text}"')
        if "\\" not in text:
            assert read == f'"{text}"'


def test_json_within_json_is_read_too() -> None:
    text = "line\nkey/1"
    for _ in range(DEEPEST):
        text = _coded(text)
    assert unescaped(text).strip('"') == "line\nkey/1"
    assert "key" not in unescaped(_coded(text))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a": "\\u0041K\\/"', '{"a": "AK/"'),
        ("\\u00", "\\u00"),
        ("\\x41 \\", "\\x41 \\"),
        ("\\ud83d\\ude00", "😀"),
        ("a\\ud83db", "a\ufffdb"),
        ("a\\u0000b\x00c", "abc"),
        ("\\\\u0041", "A"),
        ("no escape", "no escape"),
    ],
)
def test_what_is_no_whole_json_is_read_as_far_as_it_goes(written: str, read: str) -> None:
    assert unescaped(written) == read


def _coded(text: str) -> str:
    """As a string of JSON in which every character is a code."""
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'
