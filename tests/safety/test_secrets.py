"""Keys are found for what they are; stand-ins, hashes and ordinary words are not taken for keys."""

import re

import pytest

from chat_app.safety.input import inspect
from chat_app.safety.secrets import LONGEST_OPENING, SECRETS
from tests.safety.inputs import refusal
from tests.safety.keys import KEYS, body


def test_every_kind_has_an_example() -> None:
    assert set(KEYS) == {secret.id for secret in SECRETS}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("around", ["{}", "please use {} for this", "KEY={}\n", '{{"token": "{}"}}', "（{}）"])
def test_found_and_named(kind: str, around: str) -> None:
    verdict = refusal(around.format(KEYS[kind]))
    what = next(secret.what for secret in SECRETS if secret.id == kind)
    assert (verdict.stage, verdict.category, verdict.rule) == ("input", "secret", kind)
    assert f"looks like it contains a key ({what})" in verdict.message
    assert "Take it out and send it again" in verdict.message


@pytest.mark.parametrize("kind", KEYS)
def test_the_message_never_repeats_the_key(kind: str) -> None:
    assert KEYS[kind][-12:] not in refusal(KEYS[kind]).message


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "export OPENAI_API_KEY=sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_" + "0" * 36,
        "sk_live_your_key_goes_here_please",
        "sk-ant-api03-your-key-here-your-key-here-your-key-here",
        "AIza0123456789abcdefghijABCDEFGHIJ12345",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + body(64),
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "550e8400-e29b-41d4-a716-446655440000",
        "task-proj-" + body(60),
        "the AKIA prefix marks an access key, ASIA a temporary one",
        "x" + KEYS["aws_access_key"],
        "AKIA" + body(15, "upper"),
        "eyJ" + "a" * 5_000,
    ],
)
def test_not_a_key(text: str) -> None:
    assert inspect(text) is None


STAND_INS = (
    *("EXAMPLE", "example", "xxxx", "your", "Dummy", "fake", "REDACTED", "placeholder"),
    *("0123456789", "1234567890", "abcdefgh"),
)


@pytest.mark.parametrize("sign", STAND_INS)
def test_a_body_that_says_so_is_a_stand_in(sign: str) -> None:
    random = body(36)
    assert inspect(f"ghp_{random}") is not None
    assert inspect(f"ghp_{random[:10]}{sign}{random[10 + len(sign) :]}") is None


def test_four_letters_are_a_stand_in_and_five_are_a_key() -> None:
    assert inspect("ghp_" + "qwer" * 9) is None
    assert inspect("ghp_" + "qweR" * 9) is None
    assert refusal("ghp_" + "qwert" * 7 + "q").rule == "github_token"


def test_a_stand_in_does_not_hide_the_key_behind_it() -> None:
    assert refusal(f"AKIAIOSFODNN7EXAMPLE {KEYS['aws_access_key']}").rule == "aws_access_key"


def test_an_endless_token_does_not_hide_the_one_inside_it() -> None:
    token = KEYS["jwt"].split(".")
    text = "eyJ" + "a" * 5_000 + "-" + ".".join(token)
    finding = inspect(text)
    assert finding is not None and finding.rule == "jwt"
    assert text[finding.start : finding.end].startswith(token[0][3:])


def test_disguise_does_not_help() -> None:
    key = KEYS["github_token"]
    assert refusal("\u200b".join(key)).rule == "github_token"
    assert refusal("".join(chr(ord(char) + 0xFEE0) for char in key)).rule == "github_token"


def test_the_span_is_the_body_in_the_original() -> None:
    key = KEYS["stripe_key"]
    text = f"naïve café, my key is {key} ok"
    finding = inspect(text)
    assert finding is not None
    assert text[finding.start : finding.end] == key.removeprefix("sk_live_")


def test_openings_are_no_longer_than_the_screen_looks_back() -> None:
    for secret in SECRETS:
        assert re._parser.parse(secret.opening).getwidth()[1] <= LONGEST_OPENING, secret.id  # type: ignore[attr-defined]
