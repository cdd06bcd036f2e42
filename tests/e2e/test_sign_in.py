"""Coming in and going out."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from chat_app.accounts.passwords import BOUNDS
from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import ADMIN, COMPOSER, Tabs, shot

pytestmark = pytest.mark.e2e


def test_the_first_visit_makes_the_administrator(app: RunningApp, admin: str) -> None:
    status, _, body = app.request("GET", "/auth/session", Cookie=admin)
    assert status == 200
    assert json.loads(body)["user"]["role"] == "admin"


def test_signing_up_in_and_out(app: RunningApp, admin: str, tabs: Tabs) -> None:
    page = tabs.open(path="/login")
    shot(page, "login")
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("Name").fill("Grace")
    page.get_by_label("E-mail").fill("grace@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="What’s on your mind, Grace?")).to_be_visible()

    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()

    page.get_by_label("E-mail").fill("grace@example.org")
    page.get_by_label("Password").fill("wrong wrong wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("The e-mail address or the password is not right.")

    page.get_by_label("E-mail").fill("grace@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(COMPOSER)).to_be_visible()


def test_what_one_person_typed_is_not_for_the_next(admin: str, person: Callable[[str], str], tabs: Tabs) -> None:
    page = tabs.open(person("mallory"))
    page.locator(COMPOSER).fill("not yet sent")
    page.reload()
    expect(page.locator(COMPOSER)).to_have_value("not yet sent")
    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(COMPOSER)).to_be_visible()
    expect(page.locator(COMPOSER)).to_have_value("")


def test_an_address_that_is_taken(admin: str, tabs: Tabs) -> None:
    page = tabs.open(path="/login?new=1")
    page.get_by_label("Name").fill("Another Ada")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_contain_text("There is an account with this e-mail address already")
    expect(page.get_by_role("button", name="Create account")).to_be_visible()  # The same form, not another.


def test_a_refused_sign_up_keeps_name_and_address_but_not_the_password(admin: str, tabs: Tabs) -> None:
    page = tabs.open(path="/login?new=1")
    page.get_by_label("Name").fill("Grace")
    page.get_by_label("E-mail").fill("grace-again@example.org")
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_have_text(BOUNDS)
    expect(page.get_by_label("Name")).to_have_value("Grace")
    expect(page.get_by_label("E-mail")).to_have_value("grace-again@example.org")
    expect(page.get_by_label("Password")).to_have_value("")
    expect(page.get_by_label("Password")).to_be_focused()
    assert "grace" not in page.url
    shot(page, "refused-sign-up")

    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.locator(COMPOSER)).to_be_visible()
    kept = page.evaluate("Object.entries(sessionStorage).filter(([key]) => key !== 'parley.owner')")
    assert "grace-again" not in str(kept)


def test_a_refused_sign_in_keeps_the_address_for_the_next_page_alone(admin: str, tabs: Tabs) -> None:
    page = tabs.open(path="/login")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill("wrong wrong wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("is not right")
    expect(page.get_by_label("E-mail")).to_have_value(ADMIN)
    expect(page.get_by_label("Password")).to_have_value("")
    page.goto(f"{tabs.url}/login")
    expect(page.get_by_label("E-mail")).to_be_focused()
    expect(page.get_by_label("E-mail")).to_have_value("")


@pytest.mark.parametrize("path", ["/account", "/admin/plans", "/c/0123456789abcdef0123456789abcdef"])
def test_somebody_unknown_signs_in_and_comes_back(path: str, admin: str, tabs: Tabs) -> None:
    page = tabs.open(path=path)
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(re.escape(path) + "$"))
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Welcome back")


@pytest.mark.parametrize("path", ["/admin/plans", "/admin/moderation", "/admin/audit"])
def test_pages_refuse_in_plain_words(path: str, person: Callable[[str], str], tabs: Tabs) -> None:
    page = tabs.open(person("eve"), path)
    expect(page.get_by_role("heading", name="This page is not for you")).to_be_visible()
    expect(page.locator("main")).to_contain_text("You are signed in as eve-")
    assert page.get_by_role("table").count() == 0


def test_an_address_that_leads_nowhere(page: Page, tabs: Tabs) -> None:
    page.goto(f"{tabs.url}/c/0123456789abcdef0123456789abcdef")
    expect(page.get_by_role("heading", name="There is no such chat")).to_be_visible()
    page.get_by_role("link", name="Start a new chat").click()
    expect(page.locator(COMPOSER)).to_be_visible()
