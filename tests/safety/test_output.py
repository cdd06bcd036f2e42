"""The streaming screen: no split changes what is shown, nothing shown holds a match, ordinary text never waits."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.safety.normal import fold
from chat_app.safety.output import OutputScreen
from chat_app.safety.screen import RuleScreen
from chat_app.safety.secrets import LONGEST_BODY
from tests.safety.keys import KEYS, body

FRAGMENTS = [
    *("AKIA", body(16, "upper"), body(36), "ghp_", "sk-ant-", "eyJ", body(20) + ".eyJ" + body(20) + ".", body(40)),
    *("-----BEGIN PRIVATE KEY-----", "\n", " ", "-", ".", "\u200b", "é", "а", "ﬁ", "\x00", "AKIAIOSFODNN7EXAMPLE"),
    *("child", "children", "kid", "naked photos", "nude pictures", " orgasm ", "14 years old", "underage"),
    *(
        "to make a bomb",
        "You will need",
        "step 1",
        "mix the",
        "suicide",
        "lethal dose of",
        "hello",
        "The answer is 42.",
    ),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join) | st.text()


def screened(*pieces: str, released: str = "") -> tuple[str, str]:
    """What is shown of an answer that comes in these pieces, and the rule that ended it."""
    screen = OutputScreen(released)
    shown = released + "".join(map(screen.feed, pieces)) + screen.finish()
    return shown, screen.blocked.rule if screen.blocked else ""


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(pieces())
@settings(max_examples=400, deadline=None)
def test_any_split_shows_the_same(split: list[str]) -> None:
    whole = "".join(split)
    assert screened(*split) == screened(whole) == screened(*whole)


@given(pieces())
@settings(max_examples=300, deadline=None)
def test_what_is_shown_depends_only_on_the_text_so_far(split: list[str]) -> None:
    screen, shown, so_far = OutputScreen(), "", ""
    for piece in split:
        shown += screen.feed(piece)
        so_far += piece
        assert so_far.startswith(shown)
        assert shown == OutputScreen().feed(so_far)


@given(TEXTS, st.data())
@settings(max_examples=300, deadline=None)
def test_a_takeover_changes_nothing(text: str, data: st.DataObject) -> None:
    first = OutputScreen()
    shown = first.feed(text[: data.draw(st.integers(0, len(text)))])
    if first.blocked is None:
        assert screened(text[len(shown) :], released=shown) == screened(text)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_nothing_shown_holds_a_match(text: str) -> None:
    shown, _ = screened(text)
    assert screened(shown) == (shown, "")
    for body_shown in re.findall(r"\b(?:AKIA([A-Z0-9]{16})|ghp_([A-Za-z0-9]{36}))", fold(shown)):
        key = "".join(body_shown)
        assert "EXAMPLE" in key or len(set(key.lower())) < 5, "only a stand-in is shown"


def test_a_body_of_three_letters_is_a_stand_in() -> None:
    assert screened("AKIA" * 5) == screened(*"AKIA" * 5) == ("AKIA" * 5, "")


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_every_kind_of_key_is_stopped_before_its_first_character(kind: str, size: int) -> None:
    text = f"Here it is: {KEYS[kind]} and more"
    shown, rule = screened(*(text[start : start + size] for start in range(0, len(text), size)))
    assert rule == kind
    assert text.startswith(shown) and shown.startswith("Here it is: ")
    assert not re.search(r"[A-Za-z0-9]{14}", shown.replace("AgEIcHlwaS5vcmc", ""))


@pytest.mark.parametrize(
    ("text", "shown", "rule"),
    [
        ("Sure, naked photos of a child: one", "Sure, naked photos of a ", "child_safety.explicit_then_minor"),
        ("The child had an ORGASM.", "The child had an ", "child_safety.minor_then_explicit"),
        ("The child had an orgasm", "The child had an ", "child_safety.minor_then_explicit"),
        ("To make a bomb, you  will\nneed: a", "To make a bomb, ", "weapons.recipe"),
        ("About suicide: the lethal dose of it", "About suicide: the ", "self_harm.method"),
        ("The сhіld had an оrg\u200basm.", "The сhіld had an ", "child_safety.minor_then_explicit"),
    ],
)
def test_phrases(text: str, shown: str, rule: str) -> None:
    assert screened(text) == screened(*text) == (shown, rule)
    screen = OutputScreen()
    screen.feed(text)
    screen.finish()
    assert screen.blocked is not None and screen.blocked.category == rule.partition(".")[0]
    assert screen.blocked.stage == "output" and screen.blocked.message.startswith("The answer was stopped")


def test_of_two_keys_that_end_together_the_longer_one_is_stopped() -> None:
    text = "sk-ant-" + body(11) + "-" + KEYS["aws_access_key"]
    assert screened(text) == screened(*text) == ("sk-ant-", "anthropic_key")


async def test_the_rules_as_a_screen_release_what_the_rules_release() -> None:
    for text in ("use ghp_Ab3Cd4", "the key is " + KEYS["github_token"]):
        screen, rules = RuleScreen(), OutputScreen()
        for char in text:
            assert await screen.feed(char) == rules.feed(char)
        assert await screen.finish() == rules.finish()
        assert screen.blocked == rules.blocked
        assert await screen.finish() == ""
    resumed = RuleScreen(released="the key is ghp_")
    assert await resumed.feed(KEYS["github_token"].removeprefix("ghp_")) == "" and resumed.blocked is not None


@pytest.mark.parametrize(
    "text",
    [
        "Children like naked mole rats.",
        "An orgasm is a climax. " + "Many words follow. " * 20 + "A child is young.",
        "You will need 200 g of flour. Step 1: mix the eggs.",
        "If you think of suicide, please call 988. Step 1: breathe.",
        "Use `AKIAIOSFODNN7EXAMPLE` as in the manual.",
        "A JWT looks like eyJhbGciOi...",
    ],
)
def test_harmless_answers_are_shown_whole(text: str) -> None:
    assert screened(*text) == (text, "")


def test_ordinary_text_never_waits() -> None:
    text = (
        "A dog says: it's fine. As I said, sk is a letter pair; ASIA is a continent.\n\n- one\n- two\n\n"
        "```python\nfor i in range(10):\n    print(i)\n```\n\n-----\n\nMix the flour, then heat the oven. Écoute, 漢字!"
    )
    screen = OutputScreen()
    for char in text:
        assert screen.feed(char) == char
    assert screen.finish() == "" and screen.blocked is None


def test_text_waits_only_while_it_may_become_a_match() -> None:
    screen = OutputScreen()
    assert screen.feed("use ghp_") == "use ghp_"
    assert screen.feed("Ab3") == ""
    assert screen.feed(" or so") == "Ab3 or so"
    assert screen.feed("The child's org") == "The child's "
    assert screen.feed("anic food") == "organic food"
    assert screen.finish() == ""


def test_what_never_became_a_match_is_shown_at_the_end() -> None:
    screen = OutputScreen()
    assert screen.feed("ghp_Ab3Cd4") == "ghp_"
    assert screen.finish() == "Ab3Cd4" and screen.blocked is None


def test_nothing_follows_a_block() -> None:
    screen = OutputScreen()
    screen.feed(KEYS["github_token"])
    assert screen.blocked is not None
    verdict = screen.blocked
    assert (verdict.stage, verdict.category) == ("output", "secret")
    assert "GitHub" in verdict.message
    assert screen.feed("more") == screen.finish() == ""


def test_a_takeover_in_the_middle_of_a_key() -> None:
    key = KEYS["github_token"]
    screen = OutputScreen(released="the key is ghp_")
    assert screen.feed(key.removeprefix("ghp_")) == "" and screen.blocked is not None


def test_a_key_that_an_older_version_let_through_ends_the_answer() -> None:
    screen = OutputScreen(released="the key is " + KEYS["github_token"])
    assert screen.blocked is not None and screen.feed("!") == screen.finish() == ""


def test_an_endless_token_is_given_up() -> None:
    screen = OutputScreen()
    shown = "".join(screen.feed("eyJ" if n == 0 else "abcd") for n in range(3_000))
    assert screen.blocked is None
    assert 0 < 12_000 - len(shown) <= 4_100
    assert len(shown + screen.finish()) == 3 + 4 * 2_999


def test_a_body_waits_for_exactly_the_longest_length() -> None:
    screen, text = OutputScreen(), "eyJ" + body(LONGEST_BODY)
    assert screen.feed(text[:-1]) == "eyJ"
    assert screen.feed(text[-1]) == text[3:]


def test_a_piece_costs_microseconds() -> None:
    text = "The quick brown fox jumps over the lazy dog and tells a child how to make a cake. Sure!\n\n" * 60
    words = re.findall(r"\s?\w+|\s|[^\w\s]", text)
    cut = ["".join(words[start : start + 5]) for start in range(0, len(words), 5)]
    best = float("inf")
    for _ in range(5):
        screen, start = OutputScreen(), time.thread_time()
        for piece in cut:
            screen.feed(piece)
        best = min(best, time.thread_time() - start)
    assert best / len(cut) < 40e-6


@pytest.mark.parametrize("begun", ["the key is gh", "the key is ghp_", "the key is ghp_ab", "my password is AKI"])
def test_what_was_shown_before_a_takeover_is_left_out_once(begun: str) -> None:
    rest = ["no", "ne, and", " that is", " all", " there is to say ", "of it."]
    whole = begun + "".join(rest)
    screen, shown = OutputScreen(released=begun), begun
    for piece in rest:
        shown += screen.feed(piece)
        assert whole.startswith(shown)
    assert shown + screen.finish() == whole
