"""A person whose answer has to wait for its turn at the model."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app import RunningApp
from tests.chaos.program import Program
from tests.e2e.conftest import ANSWER, COMPOSER, Tabs, ask, finished, shot, words_of
from tests.parley import EngineProcess, expected, script

pytestmark = pytest.mark.e2e
WAITING = "[data-waiting]"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[RunningApp]:
    """An engine that answers one at a time."""
    engine = EngineProcess(tmp_path, flags=("--slots", "1"))
    env = {"PARLEY_INFERENCE_URL": engine.start(), "PARLEY_INFERENCE_KEY": "engine-key"}
    with RunningApp(tmp_path / "home", env=env) as app:
        yield app
    engine.kill()


def test_the_page_shows_the_position_in_the_queue(busy: RunningApp, browser: Browser) -> None:
    tabs = Tabs(browser, busy.url)
    cookie = busy.sign_up("ada@example.org", name="Ada")
    program = Program(busy.url, busy.api_key("ada@example.org"))
    page = tabs.open(cookie)
    expect(page.locator(COMPOSER)).to_be_focused()
    for seed in range(2):
        program.ask(script(tokens=160, rate=40, seed=seed))
    ask(page, question := script(tokens=40, rate=40))
    line = page.locator(WAITING)
    expect(line).to_have_text(re.compile(r"The model is busy\. 1 ahead of you: about \d+ s\."))
    shot(page, "waiting")
    expect(line).to_have_text(re.compile(r"You are next"), timeout=30_000)
    finished(page)
    expect(line).to_have_count(0)
    assert words_of(page) == expected(question).split()
    # Whoever does not want to wait leaves at once.
    program.ask(script(tokens=400, rate=40, seed=3))
    ask(page, script(tokens=10, seed=4))
    expect(page.locator(WAITING)).to_be_visible()
    page.get_by_role("button", name="Stop the answer").click()
    finished(page, "stopped")
    expect(page.locator(ANSWER).last).to_have_text("")
    assert tabs.complaints == []
    tabs.close()
