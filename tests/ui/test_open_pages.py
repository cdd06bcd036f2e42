"""Of two that do the same work for a page, the later one has the turn; with the page, everyone loses it."""

import pytest

from chat_app.ui.state import open_pages as module
from chat_app.ui.state.open_pages import OpenPages


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    there = {"a", "b"}
    monkeypatch.setattr(module, "is_connected", lambda page: page in there)
    return there


def test_the_later_one_has_the_turn(connected: set[str]) -> None:
    pages = OpenPages()
    first = pages.take("a", "follow")
    other_work, other_page = pages.take("a", "watch"), pages.take("b", "follow")
    assert pages.has(first)
    second = pages.take("a", "follow")
    assert not pages.has(first)
    pages.leave(first)  # That it ends takes nothing from the one who came after it.
    assert pages.has(second) and pages.has(other_work) and pages.has(other_page)


def test_navigation_takes_the_turn_away(connected: set[str]) -> None:
    pages = OpenPages()
    turn = pages.take("a", "follow")
    pages.cancel("a", "follow")
    assert not pages.has(turn)


def test_without_its_page_there_is_no_turn(connected: set[str]) -> None:
    pages = OpenPages()
    turn = pages.take("a", "follow")
    connected.remove("a")
    assert not pages.has(turn)
    pages.leave(turn)
    assert pages._current == {}
