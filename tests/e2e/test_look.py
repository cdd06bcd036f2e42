"""How the page looks and how it is reached: themes, phones, the keyboard, texts that would break a layout."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import ANSWER, COMPOSER, Tabs, ask, finished, shot
from tests.parley import script

pytestmark = pytest.mark.e2e
PHONE = {"width": 360, "height": 740}
AWKWARD = "\n\n".join(
    [
        "# " + "Supercalifragilistic" * 12,
        "https://example.org/" + "a" * 400,
        "`" + "inline" * 60 + "`",
        "```\n" + "x" * 600 + "\n" + "\n".join(f"line {n}" for n in range(2_000)) + "\n```",
        "| "
        + " | ".join(f"column{n}" for n in range(14))
        + " |\n|"
        + "---|" * 14
        + "\n| "
        + " | ".join(["cell" * 6] * 14)
        + " |",
        "- " + "שלום " * 80,
        "👩‍👩‍👧‍👦" * 60,
        "> > > " + "deep" * 80,
    ]
)


def no_overflow(page: Page) -> None:
    wide = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
    assert max(wide[:2]) <= wide[2], wide


def background(page: Page) -> int:
    """Brightness of the page's ground, 0 to 255."""
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    return (red + green + blue) // 3


def test_light_dark_and_the_systems_choice(tabs: Tabs, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    dark = tabs.open(cookie, color_scheme="dark")
    expect(dark.locator(COMPOSER)).to_be_visible()
    assert background(dark) < 60
    page = tabs.open(cookie, color_scheme="light")
    expect(page.locator(COMPOSER)).to_be_visible()
    assert background(page) > 230
    page.get_by_role("button", name="Switch to the dark theme").click()
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    assert background(page) < 60
    page.reload()
    expect(page.get_by_role("button", name="Switch to the light theme")).to_be_visible()
    assert background(page) < 60


def test_nothing_breaks_a_phones_width(tabs: Tabs, admin: str) -> None:
    page = tabs.open(admin, viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.locator(COMPOSER)).to_be_visible()
    no_overflow(page)
    shot(page, "phone-empty")
    page.locator(COMPOSER).fill("Wide " + "w" * 500)
    page.get_by_role("button", name="Send the message").click()
    finished(page)
    no_overflow(page)
    page.locator(COMPOSER).fill(script(text=AWKWARD))
    page.get_by_role("button", name="Send the message").click()
    expect(page.locator("[data-question]")).to_have_count(2)
    finished(page)
    no_overflow(page)
    shot(page, "phone-awkward")
    for path in ("/account", "/admin/plans", "/admin/moderation", "/admin/audit"):
        page.goto(tabs.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("heading", level=2).first).to_be_visible()
        no_overflow(page)
        shot(page, "phone" + path.replace("/", "-"))


def test_the_drawer_on_a_phone(tabs: Tabs, person: Callable[[str], str]) -> None:
    page = tabs.open(person("grace"), viewport=PHONE)
    ask(page, "A thread")
    finished(page)
    expect(page.locator(".threads a")).not_to_be_in_viewport()
    page.get_by_role("button", name="Open or close the sidebar").click()
    expect(page.locator(".threads a")).to_be_in_viewport()
    page.wait_for_timeout(300)
    shot(page, "phone-drawer")
    page.locator(".threads a").click()
    expect(page.locator(".threads a")).not_to_be_in_viewport()
    finished(page)


def test_the_sidebar_folds_away_and_stays_so(page: Page) -> None:
    page.get_by_role("button", name="Close the sidebar").click()
    expect(page.get_by_role("link", name="New chat")).not_to_be_visible()
    page.reload()
    expect(page.locator(COMPOSER)).to_be_visible()
    expect(page.get_by_role("link", name="New chat")).not_to_be_visible()
    page.get_by_role("button", name="Open or close the sidebar").click()
    expect(page.get_by_role("link", name="New chat")).to_be_visible()


def test_awkward_answers_on_a_wide_screen(page: Page) -> None:
    ask(page, script(text=AWKWARD))
    finished(page)
    no_overflow(page)
    column = page.locator(".column").bounding_box()
    figure = page.locator("figure.code").bounding_box()
    assert column and figure and figure["width"] <= column["width"]
    direction = page.locator(f"{ANSWER} .block", has_text="שלום").evaluate("block => getComputedStyle(block).direction")
    assert direction == "rtl"


def test_with_the_keyboard_alone(page: Page) -> None:
    """Ask, open the thread's menu, rename, start anew: no mouse, and always a visible focus."""
    page.keyboard.type("Only keys")
    page.keyboard.press("Enter")
    finished(page)
    page.keyboard.press("Escape")
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or "message" in focused
        if focused.startswith("Options of"):
            break
    else:
        pytest.fail("the thread's menu cannot be reached")
    page.keyboard.press("Enter")
    expect(page.locator(".menu:popover-open")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Title")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("Renamed by keys")
    page.keyboard.press("Enter")
    expect(page.locator(".threads a")).to_have_text("Renamed by keys")


def test_every_control_has_a_name(page: Page) -> None:
    ask(page, script(text="```python\nx = 1\n```"))
    finished(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, a[href], input:not([type=hidden]), textarea, select')]
        .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []
