"""The streaming screen and what lies far before a trigger: no cut and no take-over makes it forget the context."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.safety.output import OutputScreen
from tests.safety.keys import body

WORDS = "and so the day went on until the lights in every house of the town were out, " * 8
CASES = {
    "child_safety.explicit_then_minor": ("naked photos", "children", 200),
    "child_safety.minor_then_explicit": ("the child", "orgasm", 200),
    "weapons.recipe": ("to make a bomb", "you will need", 400),
    "self_harm.method": ("about suicide", "lethal dose of", 300),
}


def between(length: int) -> str:
    """Exactly so many characters of harmless words, with a blank at both ends."""
    return f" {WORDS[: length - 2]:.<{length - 2}} " if length > 1 else " "


def answered(text: str, cuts: list[int], takeovers: list[int]) -> tuple[str, str]:
    """What is shown of an answer cut here, where at some of the cuts another process goes on from what is shown."""
    screen, shown, fed = OutputScreen(), "", 0
    for number, cut in enumerate([*sorted(cuts), len(text)]):
        if number in takeovers:
            screen, fed = OutputScreen(released=shown), len(shown)
        shown += screen.feed(text[fed : max(fed, cut)])
        fed = max(fed, cut)
        if screen.blocked is not None:
            return shown, screen.blocked.rule
    shown += screen.finish()
    return shown, screen.blocked.rule if screen.blocked else ""


PARTS = st.one_of(
    st.sampled_from([part for context, trigger, _ in CASES.values() for part in (f" {context} ", f" {trigger} ")]),
    st.integers(100, 450).map(between),
    st.sampled_from(["sk-ant-", "ghp_", body(20), body(40), "-", "-child-", " orgasm-", "\u200b", "е", "AKIA", " "]),
)
TEXTS = st.lists(PARTS, max_size=8).map("".join)
PLACES = st.lists(st.integers(0, 2_000), max_size=8)


@given(TEXTS, PLACES, st.lists(st.integers(0, 8), max_size=3))
@settings(max_examples=400, deadline=None)
def test_no_cut_and_no_takeover_changes_what_is_shown(text: str, cuts: list[int], takeovers: list[int]) -> None:
    whole = answered(text, [], [])
    assert text.startswith(whole[0])
    assert answered(text, [min(cut, len(text)) for cut in cuts], takeovers) == whole


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_block_shows_nothing_that_was_undecided(text: str) -> None:
    screen = OutputScreen()
    for char in text:
        more = screen.feed(char)
        assert screen.blocked is None or more == ""
    if screen.blocked is None:
        rest = screen.finish()
        assert screen.blocked is None or rest == ""


@pytest.mark.parametrize("rule", CASES)
@pytest.mark.parametrize("size", [1, 7, 90, 10_000])
def test_a_context_reaches_exactly_as_far_as_its_rule_says(rule: str, size: int) -> None:
    context, trigger, within = CASES[rule]
    for distance, found in ((100, True), (within, True), (within + 1, False)):
        before = f"{WORDS}{context}{between(distance)}"
        text = f"{before}{trigger} and so on"
        shown = answered(text, list(range(size, len(text), size)), [])
        assert shown == ((before, rule) if found else (text, "")), distance


def test_a_long_context_counts_from_as_far_as_a_short_one() -> None:
    context, trigger = "produce any kind of homemade explosives", "you will need"
    before = f"{WORDS}{context}{between(400)}"
    assert answered(f"{before}{trigger} so", [], []) == (before, "weapons.recipe")
    assert answered(f"{before} {trigger} so", [], []) == (f"{before} {trigger} so", "")


def test_a_trigger_out_of_context_does_not_hide_the_one_in_context() -> None:
    before = f"Children play.{between(300)}naked photos of "
    assert answered(f"{before}children so", [], []) == (before, "child_safety.explicit_then_minor")


def test_a_context_out_of_reach_does_not_hide_the_one_within() -> None:
    before = f"naked photos{between(100)}more naked photos{between(100)}"
    assert answered(f"{before}children so", [], []) == (before, "child_safety.explicit_then_minor")


@pytest.mark.parametrize("rule", CASES)
@pytest.mark.parametrize("back", [0, 3, 40, 150])
def test_a_context_still_counts_after_a_takeover(rule: str, back: int) -> None:
    context, trigger, _ = CASES[rule]
    before = f"{context}{between(180)}"
    text = f"{before}{trigger} and so on"
    assert answered(text, [len(before) - back], [1]) == (before, rule)


def test_a_trigger_inside_an_unfinished_key_does_not_show_the_beginning_of_the_key() -> None:
    text = "Sure, naked photos: sk-ant-Zq7-child-Zq8"
    assert answered(text, [], []) == answered(text, list(range(len(text))), [])
    assert answered(text, [], []) == ("Sure, naked photos: sk-ant-", "child_safety.explicit_then_minor")


def test_the_match_that_ends_first_names_the_block() -> None:
    text = "Sure, naked photos: sk-ant-Zq7-child-" + body(40)
    assert answered(text, [], []) == answered(text, list(range(len(text))), [])
    assert answered(text, [], []) == ("Sure, naked photos: sk-ant-", "child_safety.explicit_then_minor")
