"""Which pages may post a form: ours, and no one else's."""

import pytest
from starlette.requests import Request

from chat_app.gateway.origins import is_trusted
from chat_app.settings import Settings


def request(**headers: str) -> Request:
    sent = {"host": "chat.example.org", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    return Request(
        {"type": "http", "method": "POST", "scheme": "http", "path": "/", "query_string": b"", "headers": raw}
        | {"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5000)}
    )


OPEN = Settings()
PUBLIC = Settings(public_url="https://chat.example.org/", allowed_origins="https://two.example.org, http://x:1/")


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (OPEN, {}),
        (OPEN, {"sec_fetch_site": "same-origin"}),
        (OPEN, {"sec_fetch_site": "none"}),
        (OPEN, {"origin": "http://chat.example.org", "sec_fetch_site": "same-origin"}),
        (OPEN, {"origin": "https://chat.example.org"}),
        (PUBLIC, {"origin": "https://chat.example.org"}),
        (PUBLIC, {"origin": "https://two.example.org"}),
        (PUBLIC, {"origin": "http://x:1"}),
    ],
)
def test_our_own_pages_and_programs_may(settings: Settings, headers: dict[str, str]) -> None:
    assert is_trusted(request(**headers), settings)


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (OPEN, {"origin": "https://evil.example"}),
        (OPEN, {"origin": "null"}),
        (OPEN, {"origin": "chrome-extension://chat.example.org"}),
        (OPEN, {"origin": "https://chat.example.org.evil.example"}),
        (OPEN, {"origin": "https://chat.example.org:8443"}),
        (OPEN, {"sec_fetch_site": "cross-site"}),
        (OPEN, {"sec_fetch_site": "same-site"}),
        (OPEN, {"origin": "http://localhost:3000"}),
        (OPEN, {"host": "localhost:8000", "origin": "http://localhost:3000", "sec_fetch_site": "same-site"}),
        (PUBLIC, {"origin": "http://chat.example.org"}),
        (PUBLIC, {"origin": "https://evil.example", "sec_fetch_site": "same-origin"}),
        (PUBLIC, {"host": "localhost:8000", "origin": "http://localhost:3000"}),
    ],
)
def test_foreign_pages_may_not(settings: Settings, headers: dict[str, str]) -> None:
    assert not is_trusted(request(**headers), settings)


def test_in_development_the_pages_have_a_port_of_their_own() -> None:
    sent = request(host="localhost:8000", origin="http://localhost:3000", sec_fetch_site="same-site")
    assert is_trusted(sent, OPEN, ["http://localhost:3000"])
    assert not is_trusted(sent, OPEN, ["http://localhost:3001"])
