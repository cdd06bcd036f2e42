"""Nothing that a model writes, and no foreign page, can act in a person's name."""

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request, expect

from tests.app import RunningApp
from tests.e2e.conftest import ANSWER, FOREIGN, Tabs, ask, finished
from tests.parley import script

pytestmark = pytest.mark.e2e

HOSTILE = "\n\n".join(
    [
        "<script>window.hurt = 1</script>",
        "<img src=x onerror='window.hurt = 2'>",
        f"![a cat](http://{FOREIGN}/cat.png)",
        f"<iframe srcdoc='<script>parent.hurt = 3</script>' src='http://{FOREIGN}/'></iframe>",
        "[click me](javascript:window.hurt=4)",
        "[and me](data:text/html,<script>window.hurt=5</script>)",
        "<a href='javascript:window.hurt=6'>raw link</a>",
        f"<style>@import 'http://{FOREIGN}/x.css'; body {{ display: none }}</style>",
        "<form action='/auth/logout' method='post'><button>Go on</button></form>",
        "[a plain link](https://example.org/page)",
        "<svg onload='window.hurt = 7'></svg>",
        "```html\n<script>window.hurt = 8</script>\n```",
    ]
)


def test_hostile_markdown_is_harmless(page: Page, app: RunningApp) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    ask(page, script(text=HOSTILE, rate=60))  # Slowly, so that every unfinished state of it is rendered, too.
    finished(page)
    page.wait_for_timeout(300)
    for look in range(2):
        assert page.evaluate("window.hurt") is None
        answer = page.locator(ANSWER)
        assert answer.locator("script, iframe, img, style, form, object, embed, svg:not(button svg)").count() == 0
        links = {link.inner_text(): link for link in answer.get_by_role("link").all()}
        assert links["a plain link"].get_attribute("rel") == "noopener noreferrer nofollow"
        assert links["a plain link"].get_attribute("target") == "_blank"
        assert links["a cat"].get_attribute("href") == f"http://{FOREIGN}/cat.png"
        for link in answer.locator("a").all():
            assert (link.get_attribute("href") or "").startswith(("http", "/")) or not link.get_attribute("href")
        expect(answer).to_contain_text("window.hurt = 1")  # Shown as the text that it is.
        if not look:
            page.reload()
            finished(page)
    assert [url for url in asked if not url.startswith((app.url, "data:"))] == []


def test_the_pages_policy_closes_what_it_does_not_need(app: RunningApp) -> None:
    for path in ("/", "/login", "/account", "/c/abc"):
        status, headers, _ = app.request("GET", path)
        assert status == 200, path
        policy = headers["content-security-policy"]
        for rule in ("img-src 'self' data:", "connect-src 'self'", "frame-ancestors 'none'", "object-src 'none'"):
            assert rule in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"


def test_hashed_files_are_compressed_and_kept_for_good(app: RunningApp, tabs: Tabs, admin: str) -> None:
    page = tabs.open(admin)
    script_url = page.locator("link[rel=modulepreload]").first.get_attribute("href")
    assert script_url and script_url.startswith("/assets/")
    _, headers, _ = app.request("GET", script_url, **{"Accept-Encoding": "gzip, br"})
    assert headers["content-encoding"] == "br"
    assert "immutable" in headers["cache-control"]


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Somebody else's site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Elsewhere</h1>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def foreign_page(tabs: Tabs, admin: str) -> Iterator[Page]:
    """A page of somebody else's site, in the browser of somebody who is signed in here."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = tabs.open(admin)
    page.goto(f"http://{FOREIGN}:{server.server_port}/")
    yield page
    tabs.complaints.clear()  # A refused socket shows on the console.
    server.shutdown()
    server.server_close()


SOCKET = """(address) => new Promise(done => {
  const socket = new WebSocket(address);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
})"""


def test_a_foreign_page_cannot_open_the_socket(foreign_page: Page, tabs: Tabs, app: RunningApp, admin: str) -> None:
    address = f"ws://localhost:{app.port}/_event/?EIO=4&transport=websocket&token=abc"
    assert foreign_page.evaluate(SOCKET, address) == "refused"
    own = tabs.open(admin)
    assert own.evaluate(SOCKET, address) == "open"


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("http://localhost:{port}", True),
        ("http://127.0.0.1:{port}", True),
        (None, True),  # No browser, nobody's cookies.
        (f"http://{FOREIGN}", False),
        (f"http://{FOREIGN}:{{port}}", False),
        ("https://localhost.elsewhere.example", False),
        ("http://localhost:1", False),  # Another program on this machine: cookies do not know ports.
        ("null", False),
    ],
)
def test_whose_sockets_are_accepted(app: RunningApp, origin: str | None, accepted: bool) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Host": f"localhost:{app.port}",
        **({"Origin": origin.format(port=app.port)} if origin else {}),
    }
    with socket.create_connection(("127.0.0.1", app.port), timeout=10) as line:
        head = "".join(f"{name}: {value}\r\n" for name, value in handshake.items())
        line.sendall(f"GET /_event/?EIO=4&transport=websocket&token=abc HTTP/1.1\r\n{head}\r\n".encode())
        status = line.recv(100).split()[1]
    assert (status == b"101") == accepted


def test_a_foreign_page_cannot_read_or_post(foreign_page: Page, app: RunningApp, admin: str) -> None:
    read = "url => fetch(url, {credentials: 'include'}).then(r => r.text(), () => 'refused')"
    assert foreign_page.evaluate(read, f"{app.url}/auth/session") == "refused"
    post = "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'})"
    post += ".then(() => 'answered', () => 'refused')"
    assert foreign_page.evaluate(post, f"{app.url}/auth/logout") == "refused"  # Not even its status is for that page.
    assert b'"role":"admin"' in app.request("GET", "/auth/session", Cookie=admin)[2].replace(b" ", b"")
