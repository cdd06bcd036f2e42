"""Who somebody is: which passwords may be chosen, when one is asked for again, and where somebody is signed in."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from chat_app.accounts.passwords import BETTER, EASY, HASHER, RULE, SHORT, WHY
from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import ADMIN, COMPOSER, Tabs, shot
from tests.e2e.test_look import no_overflow

pytestmark = pytest.mark.e2e
PHONE = {"width": 390, "height": 844}
LOOKS = [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": PHONE, "has_touch": True, "is_mobile": True}]


def change(app: RunningApp, sql: str, *values: str) -> None:
    """Change the running app's database beside it."""
    with closing(sqlite3.connect(app.home / "parley.db", timeout=30)) as file:
        file.execute(sql, values)
        file.commit()


def outdate(app: RunningApp) -> None:
    """As if nobody had shown a password for a long time."""
    change(app, "UPDATE browser_session SET proved_at = 1")


def email_on(page: Page) -> str:
    """Whose account page this is."""
    return page.locator(".lead").inner_text().split(" · ")[1]


def test_a_password_that_is_easy_to_guess_is_refused_where_it_is_chosen(
    admin: str, tabs: Tabs, person: Callable[[str], str]
) -> None:
    page = tabs.open(path="/login?new=1")
    expect(page.get_by_text(RULE)).to_be_visible()
    page.get_by_label("E-mail").fill("easy@example.org")
    page.get_by_label("Password").fill("password1234")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_have_text(f"{EASY} {WHY} {BETTER}")
    shot(page, "weak-sign-up")

    page = tabs.open(person("pru"), "/account")
    for field, text in (("Current password", PASSWORD), ("New password again", "qwertyuiop12")):
        page.get_by_label(field).fill(text)
    page.locator("input[name=new]").fill("qwertyuiop12")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text(EASY)).to_contain_text(BETTER)


def test_who_has_a_short_password_from_before_is_told_on_every_page(
    app: RunningApp, tabs: Tabs, person: Callable[[str], str]
) -> None:
    page = tabs.open(person("olga"), "/account")
    email = email_on(page)
    change(app, "UPDATE users SET password_hash = ? WHERE email = ?", HASHER.hash("8 chars!"), email)
    page = tabs.open(app.sign_in(email, "8 chars!"))
    banner = page.locator("[data-short-password]")
    expect(banner).to_contain_text(SHORT)
    shot(page, "short-password")
    banner.get_by_role("link", name="Change it").click()
    page.get_by_label("Current password").fill("8 chars!")
    page.locator("input[name=new]").fill(PASSWORD)
    page.get_by_label("New password again").fill(PASSWORD)
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("The password is changed.")).to_be_visible()
    expect(banner).to_have_count(0)


@pytest.mark.parametrize("look", LOOKS, ids=["light", "phone-dark"])
def test_a_key_is_made_with_the_keyboard_alone_after_the_password(
    look: dict[str, object], app: RunningApp, tabs: Tabs, person: Callable[[str], str]
) -> None:
    cookie = person("kit")
    outdate(app)
    page = tabs.open(cookie, "/account", **look)
    page.get_by_label("Name of a new key").fill("script")
    button, dialog = page.get_by_role("button", name="Make a key"), page.get_by_role("dialog")
    button.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("Enter it to make this key.")
    expect(dialog.get_by_label("Password")).to_be_focused()
    no_overflow(page)
    shot(page, f"proof-{look['color_scheme']}")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    expect(page.get_by_label("Name of a new key")).to_have_value("script")

    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Password")).to_be_focused()
    page.keyboard.type("not it at all")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The password is not right.")
    expect(dialog.get_by_label("Password")).to_have_value("")
    shot(page, f"proof-wrong-{look['color_scheme']}")
    expect(page.locator("[data-new-key]")).to_have_count(0)
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("[data-new-key]")).to_contain_text("sk-parley-")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="New secret").click()
    page.get_by_role("button", name="Make a new secret").click()
    expect(page.locator("[data-keys] li").first).to_contain_text("its former secret serves until")  # Not asked again.


def test_a_role_stays_as_it_was_until_the_password_was_shown(
    app: RunningApp, admin: str, tabs: Tabs, person: Callable[[str], str]
) -> None:
    person("rose")
    admins = tabs.open(app.sign_in(ADMIN), "/admin/plans")
    outdate(app)
    admins.get_by_label("Find by name or e-mail").fill("rose")
    admins.get_by_role("button", name="Find").click()
    expect(admins.locator("[data-person]")).to_have_count(1)
    role, dialog = admins.get_by_label("Role of rose"), admins.get_by_role("dialog")
    role.select_option("staff")
    expect(dialog).to_contain_text("change this person's role")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    expect(role).to_have_value("user")
    role.select_option("staff")
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Go on").click()
    expect(role).to_have_value("staff")
    expect(dialog).to_have_count(0)
    admins.reload()
    expect(admins.get_by_label("Role of rose")).to_have_value("staff")


@pytest.mark.parametrize("look", LOOKS, ids=["light", "phone-dark"])
def test_another_browser_is_signed_out_and_its_page_says_so(
    look: dict[str, object], app: RunningApp, tabs: Tabs, person: Callable[[str], str]
) -> None:
    page = tabs.open(person("sam"), "/account", **look)
    email = email_on(page)
    there = tabs.open(app.sign_in(email), "/account")
    expect(there.locator("[data-sessions] li")).to_have_count(2)
    page.reload()
    lines = page.locator("[data-sessions] li")
    expect(lines).to_have_count(2)
    expect(lines.filter(has_text="this browser").get_by_role("button")).to_have_count(0)
    lines.first.scroll_into_view_if_needed()
    no_overflow(page)
    shot(page, f"sessions-{look['color_scheme']}")
    lines.filter(has_not_text="this browser").get_by_role("button").click()
    expect(page.get_by_text("That browser is signed out.")).to_be_visible()
    expect(lines).to_have_count(1)
    expect(there.locator("[data-signed-out]")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out everywhere else")).to_have_count(0)
    there.reload()
    expect(there.get_by_role("heading", name="Welcome back")).to_be_visible()

    third = tabs.open(path="/login")
    third.get_by_label("E-mail").fill(email)
    third.get_by_label("Password").fill(PASSWORD)
    third.get_by_role("button", name="Sign in").click()
    expect(third.locator(COMPOSER)).to_be_visible()
    page.reload()
    expect(lines.filter(has_text="Chrome on Linux")).to_have_count(1)
    shot(page, f"sessions-named-{look['color_scheme']}")
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_text("1 other browser is signed out.")).to_be_visible()
    expect(third.locator("[data-signed-out]")).to_be_visible()
