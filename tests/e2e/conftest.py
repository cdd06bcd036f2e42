"""One whole Parley and one Chromium for all browser tests; a tab and, where wanted, an account for each."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from bench.browser import FLAGS
from tests.app import PASSWORD, RunningApp

expect.set_options(timeout=15_000)

ADMIN = "ada@example.org"
COMPOSER = "[data-composer] textarea"
ANSWER = "[data-answer]"
FOREIGN = "elsewhere.example"
"""A host name that the test browser finds on this machine."""


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    env = {"PARLEY_MAX_OUTPUT_TOKENS": "8000"}
    with RunningApp(tmp_path_factory.mktemp("e2e") / "home", env=env) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module only: while it is open no other test of the process can have an event loop."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("PARLEY_CHROMIUM", "/usr/bin/chromium"),
            args=[
                *FLAGS,
                f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1",
                # Chromium would keep a foreign page from this machine by itself; it is Parley that has to.
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        yield chromium
        chromium.close()


@dataclass
class Tabs:
    """Opens tabs, and notes what their consoles complained about."""

    browser: Browser
    url: str
    complaints: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, cookie: str = "", path: str = "/", **options: object) -> Page:
        """A tab of a browser that holds just this cookie."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
        self._contexts.append(context)
        context.set_default_timeout(15_000)
        if cookie:
            name, _, value = cookie.partition("=")
            context.add_cookies([{"name": name, "value": value, "url": self.url, "httpOnly": True, "sameSite": "Lax"}])
        return self.another(context.new_page(), path)

    def another(self, page: Page, path: str) -> Page:
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.url + path)
        return page

    def beside(self, page: Page) -> Page:
        """A second tab of the same browser, at the same address."""
        return self.another(page.context.new_page(), page.url.removeprefix(self.url))

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture
def tabs(app: RunningApp, browser: Browser) -> Iterator[Tabs]:
    """Tabs that must not complain; a test that provokes complaints clears them."""
    opened = Tabs(browser, app.url)
    yield opened
    opened.close()
    assert opened.complaints == []


@pytest.fixture(scope="session")
def cookies() -> dict[str, str]:
    """Browser sessions that outlive a module, by e-mail address."""
    return {}


@pytest.fixture(scope="module")
def admin(app: RunningApp, browser: Browser, cookies: dict[str, str]) -> str:
    """The first visit: the administrator makes their account in the browser. Returns its cookie."""
    if ADMIN not in cookies:
        cookies[ADMIN] = first_visit(app, browser)
    return cookies[ADMIN]


def first_visit(app: RunningApp, browser: Browser) -> str:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{app.url}/login?code={app.command('setup-code')}")  # As the start prints it.
    expect(page.get_by_role("heading", name="Welcome to Parley")).to_be_visible()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create the administrator’s account").click()
    expect(page.get_by_role("heading", name="What’s on your mind, Ada?")).to_be_visible()
    assert page.evaluate("document.cookie") == ""  # Scripts cannot see the session.
    [session] = [cookie for cookie in context.cookies() if cookie.get("name") == "parley_session"]
    context.close()
    assert session.get("httpOnly")
    return f"parley_session={session.get('value')}"


@pytest.fixture
def person(app: RunningApp, admin: str, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes an account with this name; returns its cookie."""
    del admin  # The administrator comes first.

    def make(name: str) -> str:
        return app.sign_up(f"{name}-{abs(hash(request.node.name)) % 10**8}@example.org", name=name.capitalize())

    return make


@pytest.fixture
def page(tabs: Tabs, person: Callable[[str], str]) -> Page:
    """A new chat of a new person."""
    opened = tabs.open(person("grace"))
    expect(opened.locator(COMPOSER)).to_be_focused()
    return opened


def ask(page: Page, question: str) -> None:
    """Type a question and send it."""
    page.locator(COMPOSER).fill(question)
    page.locator(COMPOSER).press("Enter")


def answered(page: Page, question: str) -> None:
    """Send a question and wait for the end of its answer, not of the one before."""
    ask(page, question)
    expect(page.locator("[data-question]").last).to_have_text(question)
    finished(page)


def finished(page: Page, status: str = "done") -> None:
    """Wait until the last answer has ended so."""
    expect(page.locator(f"[data-status={status}]")).to_be_visible(timeout=30_000)


def words_of(page: Page) -> list[str]:
    """The last answer's words. Markdown moves white space."""
    return page.locator(ANSWER).inner_text().split()


def shot(page: Page, name: str) -> None:
    """A picture for people to look at, if PARLEY_SHOTS names a folder."""
    if folder := os.environ.get("PARLEY_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
