"""The page on PostgreSQL and Valkey, with two workers that share nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app import RunningApp
from tests.e2e.conftest import ANSWER, COMPOSER, Tabs, answered, ask, finished, words_of
from tests.parley import expected, script

pytestmark = pytest.mark.e2e


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[RunningApp]:
    env = {"PARLEY_DATABASE_URL": postgres_url, "PARLEY_REDIS_URL": redis_url}
    with RunningApp(tmp_path / "home", env=env, arguments=("--workers", "2")) as app:
        yield app


def test_pages_on_two_workers(fleet: RunningApp, browser: Browser) -> None:
    tabs = Tabs(browser, fleet.url)
    cookie = fleet.sign_up("ada@example.org", name="Ada")
    page = tabs.open(cookie)
    expect(page.locator(COMPOSER)).to_be_visible()
    answered(page, question := script(tokens=100, rate=100))
    assert words_of(page) == expected(question).split()
    ask(page, question := script(tokens=200, rate=50, seed=1))
    expect(page.locator("[data-question]")).to_have_count(2)
    expect(page.locator(f"{ANSWER} .block").first).to_be_visible()
    others = [tabs.open(cookie, page.url.removeprefix(fleet.url)) for _ in range(4)]  # Some on the other worker.
    page.reload()
    for tab in (page, *others):
        finished(tab)
        assert words_of(tab) == expected(question).split()
    assert tabs.complaints == []
    tabs.close()
