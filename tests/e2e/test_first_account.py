"""A new installation that others can reach: the whole of it, as a browser and as a stranger's program find it."""

import http.client
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.app import PASSWORD, RunningApp
from tests.e2e.conftest import ADMIN, Tabs

pytestmark = pytest.mark.e2e

REBOUND = "rebound.example"
CODE = re.compile(r"Set-up code, for the first account there: ([A-Z0-9-]+)")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Bound to every address of this machine."""
    home = tmp_path_factory.mktemp("public") / "home"
    with RunningApp(home, env={"PARLEY_HOST": "0.0.0.0", "PARLEY_METRICS_TOKEN": ""}) as running:
        yield running


@pytest.fixture
def tabs(public: RunningApp, browser: Browser) -> Iterator[Tabs]:
    opened = Tabs(browser, public.url)
    yield opened
    opened.close()
    assert opened.complaints == []


def status_of(app: RunningApp, path: str, host: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/login", "/v1/models", "/v1/chat/completions", "/auth/session", "/metrics"])
def test_a_rebound_name_finds_nothing(public: RunningApp, path: str) -> None:
    assert status_of(public, path, REBOUND) == 421
    assert status_of(public, path, f"localhost:{public.port}") != 421


def test_a_rebound_name_opens_no_socket(public: RunningApp) -> None:
    path = "/_event/?EIO=4&transport=websocket&token=abc"
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    for host, status in ((f"{REBOUND}:{public.port}", 421), (f"localhost:{public.port}", 101)):
        assert status_of(public, path, host, Origin=f"http://{host}", **handshake) == status


def test_the_first_account_asks_for_the_code_that_was_printed(public: RunningApp, tabs: Tabs) -> None:
    page = tabs.open()
    expect(page.get_by_role("heading", name="Welcome to Parley")).to_be_visible()
    while not (printed := CODE.search(public.output())):
        page.wait_for_timeout(50)
    assert public.command("setup-code") == printed[1]
    page.get_by_label("Set-up code").fill("WRONG-CODE")
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create the administrator’s account").click()
    expect(page.get_by_role("alert")).to_have_text("Enter the set-up code that was printed where Parley was started.")
    expect(page.get_by_label("Name")).to_have_value("Ada")
    page.get_by_label("Set-up code").fill(printed[1].lower())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create the administrator’s account").click()
    expect(page.get_by_role("heading", name="What’s on your mind, Ada?")).to_be_visible()
