"""A second factor in the browser, where everybody needs one: set up, signing in with it, and closing the account."""

import time
from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import COMPOSER, Tabs, answered, shot

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    env = {"PARLEY_REQUIRE_SECOND_FACTOR": "everyone"}
    with RunningApp(tmp_path_factory.mktemp("factor") / "home", env=env) as running:
        running.sign_up("root@example.org", name="Root")
        yield running


def set_up(page: Page) -> tuple[str, list[str]]:
    """Set a second factor up on the page that a person is led to; the app's secret and the recovery codes."""
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.get_by_label("Your password").fill("not the password")
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("alert")).to_have_text("The current password is not right.")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("img", name="QR code of the key")).to_be_visible()
    shot(page, "factor-confirming")
    secret = page.locator("[data-factor-secret]").inner_text().replace(" ", "")
    page.get_by_label("Code that the app shows").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Turn it on").click()
    expect(page.locator(".codes code")).to_have_count(10)
    shot(page, "factor-codes")
    assert page.locator("[data-factor-secret]").count() == 0
    return secret, page.locator(".codes code").all_inner_texts()


def sign_in(page: Page, email: str) -> None:
    """As far as the form for the code."""
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()


def enter(page: Page, code: str) -> None:
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Go on").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()


def test_set_up_before_anything_else_then_signing_in_with_it(app: RunningApp, tabs: Tabs) -> None:
    page = tabs.open(app.sign_up("ada@example.org", name="Ada"), "/account")
    page.wait_for_url("**/second-factor?next=%2Faccount")
    secret, codes = set_up(page)
    page.get_by_role("link", name="Go on").click()
    page.wait_for_url("**/account")
    expect(page.locator("[data-second-factor]")).to_contain_text("On: signing in takes a code")
    shot(page, "factor-account")
    page.goto(f"{app.url}/second-factor")
    expect(page.locator("[data-codes-left]")).to_have_text("10")
    assert page.locator(".codes").count() == 0  # They were told once.
    assert secret not in page.content()

    page.goto(app.url)
    sign_out(page)
    sign_in(page, "ada@example.org")
    shot(page, "factor-code")
    enter(page, "no code")
    expect(page.get_by_role("alert")).to_contain_text("This code is not right")
    enter(page, pyotp.TOTP(secret).at(int(time.time()), counter_offset=1))  # This step's was used to confirm.
    expect(page.locator(COMPOSER)).to_be_visible()
    assert "parley_half" not in {cookie["name"] for cookie in page.context.cookies()}

    sign_out(page)
    sign_in(page, "ada@example.org")
    enter(page, codes[0].lower())
    expect(page.locator(COMPOSER)).to_be_visible()
    sign_out(page)
    sign_in(page, "ada@example.org")
    enter(page, codes[0])
    expect(page.get_by_role("alert")).to_contain_text("was used already")


def test_new_codes_another_phone_and_a_lost_one(app: RunningApp, tabs: Tabs) -> None:
    page = tabs.open(app.sign_up("bob@example.org", name="Bob"), "/")
    _, codes = set_up(page)
    page.get_by_text("New recovery codes").click()
    form = page.locator("details[open] form")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(codes[0])
    form.get_by_role("button", name="Make new codes").click()
    expect(page.get_by_text("The earlier recovery codes have ended.")).to_be_visible()
    new = page.locator(".codes code").all_inner_texts()
    assert len(new) == 10 and not set(new) & set(codes)
    page.get_by_text("New recovery codes").click()
    page.get_by_text("Turn it off, or change to another phone").click()
    form = page.locator("details[open] form")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(new[0])
    form.get_by_role("button", name="Turn it off").click()
    expect(page.get_by_text("Your account needs one here before you go on")).to_be_visible()
    page.goto(app.url)
    page.wait_for_url("**/second-factor*")
    set_up(page)
    page.get_by_role("link", name="Go on").click()
    expect(page.locator(COMPOSER)).to_be_visible()

    app.command("users", "remove-second-factor", "--email", "bob@example.org")
    page.goto(app.url)
    expect(page.get_by_text("Your account needs one here before you go on")).to_be_visible()


def test_name_address_and_closing(app: RunningApp, tabs: Tabs) -> None:
    page = tabs.open(app.sign_up("eve@example.org", name="Eve"), "/")
    _, codes = set_up(page)
    page.get_by_role("link", name="Go on").click()
    answered(page, "Name one colour.")
    page.goto(f"{app.url}/account")
    section = page.locator("[data-profile]")
    section.get_by_label("Name").fill("Evelyn")
    section.get_by_role("button", name="Save the name").click()
    expect(section.get_by_text("Saved.")).to_be_visible()
    expect(page.locator(".person-name")).to_have_text("Evelyn")
    section.get_by_label("New e-mail").fill("root@example.org")
    section.get_by_label("Your password").fill(PASSWORD)
    section.get_by_role("button", name="Change the e-mail").click()
    expect(section.get_by_text("There is another account")).to_be_visible()
    section.get_by_label("New e-mail").fill("Evelyn@example.org")
    section.get_by_label("Your password").fill(PASSWORD)
    section.get_by_role("button", name="Change the e-mail").click()
    expect(section.get_by_text("From now on you sign in as evelyn@example.org.")).to_be_visible()

    closing = page.locator("[data-closing]")
    closing.get_by_role("button", name="Close my account").click()
    closing.scroll_into_view_if_needed()
    shot(page, "closing")
    closing.get_by_label("Your password").fill(PASSWORD)
    closing.get_by_label("Code").fill("no code")
    closing.get_by_role("button", name="Close it for good").click()
    expect(closing.get_by_role("alert")).to_contain_text("This code is not right")
    closing.get_by_label("Your password").fill(PASSWORD)
    closing.get_by_label("Code").fill(codes[0])
    closing.get_by_role("button", name="Close it for good").click()
    expect(page.get_by_text("Your account is closed.")).to_be_visible()
    page.get_by_label("E-mail").fill("evelyn@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("The e-mail address or the password is not right.")
    assert "evelyn" not in app.command("users", "list").lower()
