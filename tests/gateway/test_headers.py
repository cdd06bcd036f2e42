"""Security headers on every answer, without touching streams and sockets."""

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from chat_app.gateway.headers import HEADERS, SecurityHeaders


async def page(request: object) -> PlainTextResponse:
    return PlainTextResponse("page", headers={"X-Frame-Options": "SAMEORIGIN"})


async def stream(request: object) -> StreamingResponse:
    return StreamingResponse(iter(["a", "b"]))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


APP = SecurityHeaders(Starlette(routes=[Route("/", page), Route("/s", stream), WebSocketRoute("/ws", socket)]))


def test_every_answer_has_them_once_and_an_app_keeps_its_own() -> None:
    client = TestClient(APP)
    for path in ("/", "/s", "/nothing"):
        headers = client.get(path).headers
        assert all(len(headers.get_list(name.decode())) == 1 for name, _ in HEADERS), path
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert client.get("/").headers["x-frame-options"] == "SAMEORIGIN"
    assert client.get("/s").headers["x-frame-options"] == "DENY"


def test_sockets_pass() -> None:
    with TestClient(APP).websocket_connect("/ws") as connection:
        assert connection.receive_text() == "hello"
