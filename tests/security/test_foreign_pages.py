"""No page of another site has a browser change anything, whatever routes there are."""

import re
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from chat_app.chat_app import app
from chat_app.gateway.app import api
from chat_app.gateway.completions_route import PATH
from chat_app.gateway.origins import READING
from chat_app.ui.sockets import may_open
from chat_app.wiring import Parley
from tests.parley import PASSWORD, person
from tests.security.doors import Door, door_to

FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
METHODS = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
async def door(parley: Parley) -> AsyncIterator[Door]:
    await person(parley)
    async with door_to(parley) as door:
        yield door


def changing(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Method and address of every registered route that may change something."""
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from changing(included.routes)
            continue
        assert isinstance(route, Route)  # Of another kind nobody here knows the methods.
        for method in sorted((route.methods or set()) - READING):
            yield method, re.sub(r"\{[^}]*\}", "0" * 32, route.path)


async def test_a_foreign_page_changes_nothing_with_somebodys_cookie(door: Door) -> None:
    cookie = (await door.sign_in("ada@example.org", PASSWORD)).cookie
    routes = list(changing(api(lambda: door.parley).router.routes))
    with_cookies = [(method, path) for method, path in routes if not path.startswith("/v1/")]
    assert {path for _, path in with_cookies} >= {"/auth/login", "/auth/signup", "/auth/logout"}
    # What is not registered today could be tomorrow: behind the routes come Reflex's, and the pages.
    more = [(method, path) for method in METHODS for path in ("/auth/new", "/_upload", "/_event/", "/", "/account")]
    for method, path in [*with_cookies, *more]:
        for headers in FOREIGN:
            async with door.http.request(method, door.url + path, headers={**headers, "Cookie": cookie}) as response:
                assert response.status == 403, (method, path, headers)
                assert (await response.json())["error"]["code"] == "foreign_origin"
                assert "Set-Cookie" not in response.headers
    assert await door.who(cookie) == "ada@example.org"


async def test_a_cookie_opens_no_route_of_the_api(door: Door) -> None:
    """So a foreign page finds nothing there that it could have a browser do."""
    cookie = (await door.sign_in("ada@example.org", PASSWORD)).cookie
    routes = [each for each in changing(api(lambda: door.parley).router.routes) if each[1].startswith("/v1/")]
    assert {path for _, path in routes} >= {f"/v1/admin/reviews/{'0' * 32}", f"/v1/generations/{'0' * 32}/stop"}
    for method, path in [*routes, ("POST", PATH)]:
        async with door.http.request(method, door.url + path, json={}, headers={"Cookie": cookie}) as response:
            assert response.status in (401, 404, 405), (method, path)


async def test_a_form_from_one_of_our_own_pages_is_taken(door: Door) -> None:
    for headers in ({"Origin": door.url, "Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}, {}):
        assert (await door.sign_in("ada@example.org", PASSWORD, **headers)).error == ""


@pytest.mark.parametrize(
    ("origin", "site", "opens"),
    [
        (None, None, True),
        (None, "same-origin", True),
        (None, "cross-site", False),
        (None, "same-site", False),
        ("http://chat.example.org", "same-origin", True),
        ("http://evil.example", "cross-site", False),
    ],
)
def test_a_foreign_page_opens_no_socket(origin: str | None, site: str | None, opens: bool) -> None:
    environ = {"HTTP_HOST": "chat.example.org", **({"HTTP_SEC_FETCH_SITE": site} if site else {})}
    assert may_open(origin, environ) is opens


def test_reflex_serves_the_socket_and_nothing_else() -> None:
    """No uploads, no list of all pages, no second health check: only what is needed."""
    assert app._api is not None
    app._add_default_endpoints()
    app._add_optional_endpoints()
    there = [route for route in app._api.routes if isinstance(route, Route | Mount | WebSocketRoute)]
    assert [route.path for route in there] == ["/_event"] and len(app._api.routes) == 1
    assert app.sio is not None and app.sio.eio.transports == ["websocket"]
