"""A person who chooses among several models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from inference import catalog
from tests.app import RunningApp
from tests.e2e.conftest import COMPOSER, Tabs, ask, finished, words_of

pytestmark = [pytest.mark.e2e, pytest.mark.model]


@pytest.fixture
def several(tmp_path: Path) -> Iterator[RunningApp]:
    """The bundled model, the same under another name, and one whose file is damaged."""
    home = tmp_path / "home"
    home.mkdir()
    _, bundled = catalog.find("smollm2-135m-instruct", home)
    (home / "models.toml").write_text(
        f"""
        [[model]]
        id = "another"
        file = "{bundled}"
        kv_tokens = 4096

        [[model]]
        id = "damaged"
        file = "{bundled}"
        sha256 = "{"0" * 64}"
        """
    )
    with RunningApp(home, env={"PARLEY_INFERENCE_ENGINE": "llama_cpp"}) as app:
        yield app


def test_a_model_is_loaded_when_it_is_chosen(several: RunningApp, browser: Browser) -> None:
    tabs = Tabs(browser, several.url)
    page = tabs.open(several.sign_up("ada@example.org", name="Ada"))
    picker = page.get_by_label("Model", exact=True)
    expect(picker.locator("option")).to_have_text(["smollm2-135m-instruct", "another", "damaged"], timeout=60_000)
    picker.select_option("another")
    ask(page, "Say hello.")
    finished(page)
    assert words_of(page)
    picker.select_option("damaged")
    expect(page.locator(".composer .trouble")).to_contain_text("its file is damaged", timeout=30_000)
    page.locator(COMPOSER).fill("Are you there?")
    page.locator(COMPOSER).press("Enter")
    expect(page.locator(".composer .trouble")).to_contain_text("its file is damaged")
    expect(page.locator(COMPOSER)).to_have_value("Are you there?")
    picker.select_option("smollm2-135m-instruct")
    page.locator(COMPOSER).press("Enter")
    finished(page)
    tabs.close()
