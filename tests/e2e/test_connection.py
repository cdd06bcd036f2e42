"""Sessions that end and sockets that break, while somebody types and an answer is written."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Page, expect

from tests.app import RunningApp
from tests.chaos.wire import Wire
from tests.e2e.conftest import ANSWER, COMPOSER, Tabs, answered, ask, finished, shot, words_of
from tests.parley import expected, script

pytestmark = pytest.mark.e2e


def test_a_session_that_ends_in_the_middle_is_shown_and_nothing_typed_is_lost(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp
) -> None:
    cookie = person("grace")
    email = json.loads(app.request("GET", "/auth/session", Cookie=cookie)[2])["user"]["email"]
    page = tabs.open(cookie)
    ask(page, question := script(tokens=400, rate=40))
    expect(page.locator(f"{ANSWER} .block").first).to_be_visible()
    page.locator(COMPOSER).fill("my next thought")
    status, _, _ = app.request("POST", "/auth/logout", {}, Cookie=cookie)  # As from another tab.
    assert status == 303
    expect(page.locator("[data-signed-out]")).to_contain_text("your session has ended")
    shown = words_of(page)
    page.wait_for_timeout(500)
    assert words_of(page) == shown  # It has stopped following.
    page.locator(COMPOSER).press("Enter")
    expect(page.locator(COMPOSER)).to_have_value("my next thought")
    shot(page, "signed-out")

    page.get_by_role("link", name="Sign in again").click()
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/c/*")
    expect(page.locator(COMPOSER)).to_have_value("my next thought")
    finished(page)
    assert words_of(page) == expected(question).split()


def test_a_question_sent_without_a_session_is_given_back(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp
) -> None:
    cookie = person("grace")
    page = tabs.open(cookie)
    expect(page.locator(COMPOSER)).to_be_visible()
    app.request("POST", "/auth/logout", {}, Cookie=cookie)
    ask(page, "typed with care")
    expect(page.locator("[data-signed-out]")).to_be_visible()
    expect(page.locator(COMPOSER)).to_have_value("typed with care")
    assert page.locator("[data-question]").count() == 0


@contextmanager
def over_a_wire(tabs: Tabs, app: RunningApp, cookie: str) -> Iterator[tuple[Wire, Page]]:
    """A page whose connection to the server can be cut. What the browser reports of failed attempts is no complaint."""
    with Wire(app.port) as wire:
        tabs.url = wire.url
        page = tabs.open(cookie)
        yield wire, page
        page.close()
    tabs.complaints.clear()


SETTLED_MS = 2_000
"""By then a page has looked whether what was sent before it was loaded has arrived."""


def test_a_question_sent_as_the_page_opens_stays_sent_while_the_server_is_slow(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp
) -> None:
    page = tabs.open(person("grace"), "/account")
    page.get_by_role("link", name="New chat").click()
    expect(page.locator(COMPOSER)).to_be_focused()
    with app.frozen():
        ask(page, question := script(tokens=5))
        page.wait_for_timeout(SETTLED_MS)
        expect(page.locator(COMPOSER)).to_have_value("")
    finished(page)
    expect(page.locator("[data-question]")).to_have_text([question])
    expect(page.locator(COMPOSER)).to_have_value("")


def test_a_question_sent_as_the_connection_is_back_stays_sent_while_the_server_is_slow(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp
) -> None:
    with over_a_wire(tabs, app, person("grace")) as (wire, page):
        answered(page, script(tokens=5))
        page.wait_for_timeout(SETTLED_MS)
        wire.cut()
        expect(page.locator("[data-offline]")).to_be_visible()
        wire.mend()
        expect(page.locator("[data-offline]")).to_have_count(0)
        with app.frozen():
            ask(page, question := script(tokens=6))
            page.wait_for_timeout(SETTLED_MS)
            expect(page.locator(COMPOSER)).to_have_value("")
        expect(page.locator("[data-question]").last).to_have_text(question)
        finished(page)
        expect(page.locator(COMPOSER)).to_have_value("")


def test_a_question_that_never_arrived_is_given_back_by_the_next_page(tabs: Tabs, person: Callable[[str], str]) -> None:
    page = tabs.open(person("grace"))
    answered(page, asked := script(tokens=5))
    for sent, given_back in (("lost on its way", "lost on its way"), (asked, "")):
        page.evaluate("sent => sessionStorage.setItem('parley.sent', sent)", sent)
        page.reload()
        page.wait_for_timeout(SETTLED_MS)
        expect(page.locator(COMPOSER)).to_have_value(given_back)
        page.locator(COMPOSER).fill("")


def test_a_lost_connection_is_shown_and_nothing_is_sent_into_it(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp
) -> None:
    with over_a_wire(tabs, app, person("grace")) as (wire, page):
        ask(page, question := script(tokens=150, rate=50))
        expect(page.locator(f"{ANSWER} .block").first).to_be_visible()
        wire.cut()
        expect(page.locator("[data-offline]")).to_contain_text("The connection to the server is lost")
        shot(page, "offline")
        page.locator(COMPOSER).fill("typed meanwhile")
        page.locator(COMPOSER).press("Enter")
        expect(page.locator(COMPOSER)).to_have_value("typed meanwhile")
        wire.mend()
        expect(page.locator("[data-offline]")).to_have_count(0)
        finished(page)
        assert words_of(page) == expected(question).split()
        page.locator(COMPOSER).press("Enter")
        expect(page.locator("[data-question]").last).to_have_text("typed meanwhile")
        finished(page)


def test_an_engine_that_dies_is_shown_until_it_is_back(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp, admin: str
) -> None:
    page, admins = tabs.open(person("grace")), tabs.open(admin)
    for each in (page, admins):
        expect(each.locator(COMPOSER)).to_be_visible()
        expect(each.locator("select.picker")).to_be_visible()
    answered(admins, script(tokens=5))  # Which moves the page to the address of its new chat.
    for _ in range(4):  # The first restart may be over before a page looks; those that follow at once take longer.
        with suppress(AssertionError):
            app.kill9_engine()
        page.wait_for_timeout(250)
    expect(admins.locator(".engine")).to_have_text(
        "The engine stopped (signal 9) and is being restarted. Answers go on by themselves."
    )
    shot(admins, "engine-admin")
    expect(page.locator(".engine")).to_contain_text("engine is restarting")
    shot(page, "engine")
    expect(page.locator(".engine")).to_have_count(0, timeout=20_000)
    answered(page, question := script(tokens=30))
    assert words_of(page) == expected(question).split()
