"""Signing in through the provider as a person does it, and connecting an account that has a password."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import ADMIN, COMPOSER, Tabs, shot
from tests.oidc.provider import ADA, OidcProvider

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, oidc_server: OidcProvider) -> Iterator[RunningApp]:
    """One of its own, which knows the provider."""
    env = {f"PARLEY_{name.upper()}": value for name, value in oidc_server.settings(oidc_name="Example Ltd.").items()}
    with RunningApp(tmp_path_factory.mktemp("oidc") / "home", env=env) as running:
        oidc_server.tell(base=running.url, person=ADA, substitute=None)
        running.sign_up(ADMIN)
        yield running


def test_in_and_out_with_the_provider(app: RunningApp, tabs: Tabs, oidc_server: OidcProvider) -> None:
    page = tabs.open(path="/login?next=%2Faccount")
    expect(page.get_by_role("link", name="Continue with Example Ltd.")).to_be_visible()
    shot(page, "login-provider")
    page.get_by_role("link", name="Continue with Example Ltd.").click()
    expect(page.get_by_text("Ada There · ada@corp.example")).to_be_visible()
    expect(page.get_by_text("You can sign in with it.")).to_be_visible()
    expect(page.get_by_role("button", name="Change the password")).to_have_count(0)
    page.get_by_role("button", name="Sign out").last.click()
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    page.goto(app.url)
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()


def test_connecting_an_account_with_a_password(app: RunningApp, tabs: Tabs, oidc_server: OidcProvider) -> None:
    oidc_server.tell(person=ADA | {"sub": "the-admin-there", "email": ADMIN})
    page = tabs.open(path="/login")
    page.get_by_role("link", name="Continue with Example Ltd.").click()
    expect(page.get_by_role("alert")).to_contain_text("Sign in with its password and connect it")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(COMPOSER)).to_be_visible()
    page.goto(f"{app.url}/account")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_text("You can sign in with it.")).to_be_visible()
    shot(page, "account-provider")
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("button", name="Connect", exact=True)).to_be_visible()
