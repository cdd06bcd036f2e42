"""The product as it comes: the bundled model, a person, a browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app import RunningApp
from tests.e2e.conftest import COMPOSER, Tabs, answered, shot, words_of

pytestmark = [pytest.mark.e2e, pytest.mark.model]


def test_a_person_chats_with_the_bundled_model(tmp_path: Path, browser: Browser) -> None:
    with RunningApp(tmp_path / "home", env={"PARLEY_INFERENCE_ENGINE": "llama_cpp"}) as app:
        tabs = Tabs(browser, app.url)
        page = tabs.open(app.sign_up("ada@example.org", name="Ada"))
        expect(page.locator(COMPOSER)).to_be_visible()
        expect(page.get_by_label("Model", exact=True)).to_have_value("smollm2-135m-instruct", timeout=60_000)
        answered(page, "What is the capital of Japan? Answer in one sentence.")
        assert "Tokyo" in " ".join(words_of(page))
        shot(page, "real-model")
        answered(page, "And what is it known for?")
        assert len(words_of(page)) > 5
        page.get_by_role("button", name="Receipt").last.click()
        expect(page.locator(".receipt:popover-open")).to_contain_text("from cache")
        assert tabs.complaints == []
        tabs.close()
