"""A person behind TLS: the browser holds `__Host-` cookies, which Chromium takes on localhost without TLS too."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import ADMIN, ANSWER, COMPOSER, Tabs, answered
from tests.parley import script

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    home = tmp_path_factory.mktemp("secure") / "home"
    with RunningApp(home, env={"PARLEY_SECURE_COOKIES": "true"}) as running:
        running.sign_up(ADMIN, name="Ada")
        yield running


@pytest.fixture
def tabs(secure: RunningApp, browser: Browser) -> Iterator[Tabs]:
    opened = Tabs(browser, secure.url)
    yield opened
    opened.close()
    assert opened.complaints == []


def test_a_person_signs_in_asks_and_is_still_there_after_a_reload(tabs: Tabs) -> None:
    page = tabs.open(path="/login")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What’s on your mind, Ada?")).to_be_visible()
    assert "__Host-parley_session" in {cookie.get("name") for cookie in page.context.cookies()}
    expect(page.locator(COMPOSER)).to_be_focused()
    answered(page, script(text="It is 391."))
    page.reload()
    expect(page.locator(ANSWER)).to_contain_text("It is 391.")
