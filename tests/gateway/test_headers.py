"""Security headers on every response, without touching streams and sockets."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from chat_app.gateway.headers import HEADERS, SecurityHeaders
from chat_app.settings import Settings
from tests.gateway.served import Served
from tests.parley import script

HSTS = "strict-transport-security"


async def page(request: object) -> PlainTextResponse:
    return PlainTextResponse("page", headers={"X-Frame-Options": "SAMEORIGIN"})


async def stream(request: object) -> StreamingResponse:
    return StreamingResponse(iter(["a", "b"]))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


def client(base: str = "http://testserver", **settings: Any) -> TestClient:
    """Of an app with a page, a stream and a socket, asked at `base` from 127.0.0.1."""
    routes = [Route("/", page), Route("/s", stream), WebSocketRoute("/ws", socket)]
    running: Any = SimpleNamespace(settings=Settings(**settings))
    return TestClient(SecurityHeaders(Starlette(routes=routes), lambda: running), base, client=("127.0.0.1", 5000))


def test_every_response_has_them_once_and_an_app_keeps_its_own() -> None:
    for path in ("/", "/s", "/nothing"):
        headers = client().get(path).headers
        assert all(len(headers.get_list(name.decode())) == 1 for name, _ in HEADERS), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"] and "microphone=()" in headers["permissions-policy"]
        policy = headers["content-security-policy"]
        for closed in ("default-src", "frame-ancestors", "base-uri", "form-action"):
            assert f"{closed} 'none'" in policy
    assert client().get("/").headers["x-frame-options"] == "SAMEORIGIN"
    assert client().get("/s").headers["x-frame-options"] == "DENY"


def test_sockets_pass() -> None:
    with client().websocket_connect("/ws") as connection:
        assert connection.receive_text() == "hello"


@pytest.mark.parametrize(
    ("base", "settings", "sent", "told"),
    [
        ("http://localhost:3000", {}, {}, False),
        ("http://chat.example.org", {"public_url": "https://chat.example.org"}, {}, True),
        ("http://chat.example.org", {"public_url": "http://chat.example.org"}, {}, False),
        ("http://nas.example:8443", {"public_url": "https://nas.example:8443"}, {}, False),
        ("https://chat.example.org", {}, {}, True),
        ("https://[2001:db8::1]", {}, {}, True),
        ("https://nas.example:8443", {}, {}, False),
        ("http://chat.example.org", {"trusted_proxies": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, True),
        ("http://chat.example.org", {}, {"X-Forwarded-Proto": "https"}, False),
    ],
)
def test_browsers_are_told_to_use_tls_where_it_is_there(
    base: str, settings: dict[str, Any], sent: dict[str, str], told: bool
) -> None:
    headers = client(base, **settings).get("/", headers=sent).headers
    assert headers.get(HSTS) == ("max-age=31536000" if told else None)


def test_while_parley_starts_there_are_headers_already() -> None:
    def not_yet() -> Any:
        raise RuntimeError

    app = SecurityHeaders(Starlette(routes=[Route("/", page)]), not_yet)
    assert TestClient(app).get("/").headers["x-content-type-options"] == "nosniff"


async def responses(served: Served) -> AsyncIterator[tuple[str, Any]]:
    """What the gateway sends for one person, streamed and not, in front of its middleware and behind it."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": script(text="Hello.")}]}
    for wanted in (body, {**body, "stream": True}):
        async with served.http.post(
            f"{served.url}/v1/chat/completions", json=wanted, headers=served.bearer
        ) as response:
            await response.read()
            yield "completion", response
    for path in (f"/v1/generations/{response.headers['x-parley-generation']}", "/v1/models", "/auth/session"):
        async with served.http.get(served.url + path, headers=served.bearer) as response:
            yield path, response
    events = f"/v1/generations/{response.headers.get('x-parley-generation', '0' * 32)}/events"
    async with served.http.get(served.url + events, headers=served.bearer) as response:
        yield events, response
    for path in ("/v1/chat/completions", "/v1/models", "/v1/none"):
        async with served.http.get(served.url + path) as response:
            yield path, response


async def test_what_is_for_one_person_is_kept_by_no_cache(served: Served) -> None:
    seen = 0
    async for what, response in responses(served):
        assert response.headers.getall("Cache-Control") == ["no-store"], what
        for name, value in HEADERS:
            assert response.headers.getall(name.decode()) == [value.decode()], what
        seen += 1
    assert seen == 9


async def test_behind_tls_the_api_says_so_too(served: Served) -> None:
    served.parley.settings = Settings(
        **{**served.parley.settings.model_dump(), "public_url": "https://chat.example.org"}
    )
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/auth/session")):
        async with served.http.request(method, served.url + path) as response:
            assert response.headers.getall(HSTS) == ["max-age=31536000"], path
