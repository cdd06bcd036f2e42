"""A person's page through reloads, a lost socket and a killed app: it ends with the exact text, by itself."""

import os
import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bench.browser import ANSWER, COMPOSER, FLAGS
from tests.app import RunningApp
from tests.chaos.wire import Wire
from tests.parley import expected, script

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]
WORDS = 300
PATIENCE_MS = 40_000


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with RunningApp(tmp_path_factory.mktemp("chaos-page") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def cookie(app: RunningApp) -> str:
    signed_in = app.sign_up("ada@example.org")
    app.unlimited("ada@example.org")
    return signed_in


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = os.environ.get("PARLEY_CHROMIUM", "/usr/bin/chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


def opened(browser: Browser, url: str, cookie: str) -> Page:
    """A new tab of the signed-in person at a new chat."""
    context = browser.new_context()
    name, _, value = cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": url}])
    page = context.new_page()
    page.goto(url)
    page.locator(COMPOSER).wait_for()
    return page


def ask(page: Page, question: str, at_least: int) -> None:
    """Send a question and wait until the page shows so much of the answer."""
    page.locator(COMPOSER).fill(question)
    page.locator(COMPOSER).press("Enter")
    page.wait_for_function(
        "([selector, length]) => (document.querySelector(selector)?.textContent ?? '').length >= length",
        arg=[ANSWER, at_least],
        timeout=PATIENCE_MS,
    )


def ends_exact(page: Page, question: str) -> None:
    """Markdown moves white space; words are compared, each in its place."""
    expect(page.locator("[data-status=done]")).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator(ANSWER).inner_text().split() == expected(question).split()


def reach(round: int) -> int:
    return random.Random(round).randrange(20, 900)


def test_reload(app: RunningApp, cookie: str, browser: Browser, round: int) -> None:
    page = opened(browser, app.url, cookie)
    ask(page, question := script(tokens=WORDS, rate=100, seed=round), reach(round))
    page.reload()
    ends_exact(page, question)
    page.context.close()


def test_the_socket_is_cut(app: RunningApp, cookie: str, browser: Browser, round: int) -> None:
    with Wire(app.port) as wire:
        page = opened(browser, wire.url, cookie)
        ask(page, question := script(tokens=WORDS, rate=100, seed=round), reach(round))
        wire.cut()
        page.wait_for_timeout(1_500)
        wire.mend()
        ends_exact(page, question)
        page.context.close()


def test_the_app_is_killed_under_an_open_page(app: RunningApp, cookie: str, browser: Browser, round: int) -> None:
    page = opened(browser, app.url, cookie)
    ask(page, question := script(tokens=WORDS, rate=100, seed=round), reach(round))
    app.kill9()
    app.start()
    ends_exact(page, question)
    page.context.close()


def test_the_engine_is_killed_under_an_open_page(app: RunningApp, cookie: str, browser: Browser, round: int) -> None:
    page = opened(browser, app.url, cookie)
    ask(page, question := script(tokens=WORDS, rate=100, seed=round), reach(round))
    app.kill9_engine()
    ends_exact(page, question)
    page.context.close()


THOUGHT = " ".join(f"thought{at}" for at in range(60))
FIRST, SECOND = (" ".join(f"{word}{at}" for at in range(60)) for word in ("before", "after"))
CALL = {"name": "calculator", "arguments": {"expression": "17 * 23"}}
STEPS = script(reasoning=THOUGHT, text=FIRST, calls=[CALL], then={"text": SECOND}, rate=25)
PLACES = {
    "thinking": "[data-step=reasoning][data-state=running]",
    "before the tool": f"{ANSWER} .block",
    "behind the tool": "[data-step=tool]",
    "in the second step": "[data-step=tool] ~ .block",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_app_is_killed_in_each_part_of_a_turn_of_several_steps(
    app: RunningApp, cookie: str, browser: Browser, place: str
) -> None:
    page = opened(browser, app.url, cookie)
    page.locator(COMPOSER).fill(STEPS)
    page.locator(COMPOSER).press("Enter")
    page.locator(PLACES[place]).first.wait_for(timeout=PATIENCE_MS)
    app.kill9()
    app.start()
    expect(page.locator("[data-status=done]")).to_be_visible(timeout=PATIENCE_MS)
    for _ in range(2):
        parts = page.locator(ANSWER).evaluate(
            "answer => [...answer.children].map(part => [part.dataset.step ?? 'text', part.textContent])"
        )
        assert [kind for kind, _ in parts] == ["reasoning", "text", "tool", "text"]
        texts = [text for _, text in parts]
        assert texts[0].endswith(THOUGHT)
        assert texts[1].split() == FIRST.split()
        assert texts[2].startswith("Used calculator: 17 * 23 = 391")
        assert texts[3].split() == SECOND.split()
        page.reload()
        expect(page.locator("[data-status=done]")).to_be_visible(timeout=PATIENCE_MS)
    page.context.close()
