"""A name that its owner points at this machine does not make a foreign page one of ours."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from chat_app.gateway.hosts import KnownHosts, is_known
from chat_app.settings import Settings
from chat_app.wiring import Parley
from tests.parley import PASSWORD, StartParley, person
from tests.security.doors import Door, door_to
from tests.servers import free_port

REBOUND = "rebound.example"


@pytest.fixture
async def door(parley: Parley) -> AsyncIterator[Door]:
    await person(parley)
    async with door_to(parley) as door:
        yield door


async def test_a_rebound_name_signs_nobody_in(door: Door) -> None:
    port = urlsplit(door.url).port
    for host in (REBOUND, f"{REBOUND}:{port}"):
        own = {"Host": host, "Origin": f"http://{host}"}
        refused = await door.sign_in("ada@example.org", PASSWORD, **own)
        assert (refused.status, refused.cookies) == (421, {})
        assert (await door.sign_up("eve@example.org", PASSWORD, **own)).status == 421
    assert len(await door.parley.accounts.people()) == 1


async def test_a_rebound_name_reads_nothing(door: Door) -> None:
    for path in ("/metrics", "/auth/session", "/v1/models", "/v1/chat/completions", "/", "/login"):
        refused = await door.get(path, Host=REBOUND)
        assert refused.status == 421
        assert "PARLEY_ALLOWED_HOSTS" in refused.body
        assert refused.headers["X-Content-Type-Options"] == "nosniff"
        assert REBOUND not in refused.body
    assert '"code":"unknown_host"' in (await door.get("/v1/models", Host=REBOUND)).body


async def test_health_is_said_under_any_name_and_figures_to_who_has_their_token(door: Door) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await door.get(path, Host="10.1.2.3:3000")).status == 200
        assert (await door.get(path, Host="parley.default.svc")).status == 200
    door.parley.settings = door.parley.settings.model_copy(update={"metrics_token": SecretStr("t0ken")})
    assert (await door.get("/metrics", Host="app-1:3000", Authorization="Bearer t0ken")).status == 200
    assert (await door.get("/metrics", Host="app-1:3000")).status == 401


@pytest.mark.parametrize(
    "head",
    ["", "Host: \r\n", "Host: localhost\r\nHost: localhost\r\n", "Host: a@localhost\r\n", "Host: localhost/\r\n"],
)
async def test_a_request_that_names_no_one_host_is_refused(door: Door, head: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(door.url).port)
    writer.write(f"GET /auth/session HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status in (b"400", b"421")


async def test_the_public_address_and_named_hosts_are_known(start_parley: StartParley) -> None:
    parley = await start_parley(public_url="https://chat.example.org", allowed_hosts="intern.example, [2001:db8::1]")
    async with door_to(parley) as door:
        for host in ("chat.example.org", "CHAT.example.org.:443", "intern.example:3000", "[2001:db8::1]", "localhost"):
            assert (await door.get("/auth/session", Host=host)).status == 200, host
        for host in ("example.org", "evil.chat.example.org", "chat.example.org.evil", "192.0.2.1"):
            assert (await door.get("/auth/session", Host=host)).status == 421, host


def test_without_a_public_address_numbers_are_known() -> None:
    """Nobody can point a number elsewhere."""
    plain = Settings(host="0.0.0.0")
    for host in ("localhost:3000", "127.0.0.1", "[::1]:3000", "192.168.1.5:80", "[fe80::1]"):
        assert is_known(host, plain), host
    for host in (REBOUND, "127.0.0.1.nip.io", "localhost.example", "", "::1", "[::1", "127.0.0.1:x", "parley.local"):
        assert not is_known(host, plain), host
    assert is_known("parley.local", Settings(host="parley.local"))


def test_what_only_this_machine_reaches_is_asked_by_no_other_number() -> None:
    """So a proxy that nobody told it about, and that passes the Host on, gets nothing out of it."""
    for host in ("localhost:3000", "127.0.0.1", "[::1]:3000"):
        assert is_known(host, Settings()), host
    for host in ("192.168.1.5:80", "[fe80::1]", "203.0.113.7"):
        assert not is_known(host, Settings()), host


@pytest.fixture
async def sockets(start_parley: StartParley) -> AsyncIterator[int]:
    """The port of an app with a page and a socket, behind the check, on the product's server."""

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    async def page(_: object) -> PlainTextResponse:
        return PlainTextResponse("page")

    parley = await start_parley()
    inner = Starlette(routes=[Route("/", page), WebSocketRoute("/_event/", socket)])
    port = free_port()
    app = KnownHosts(inner, lambda: parley)
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while await status_of(port, "/", "localhost") != 200:
            await asyncio.sleep(0.01)
    yield port
    server.stop()
    await asyncio.wait_for(task, 10)


HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def status_of(port: int, path: str, host: str, more: str = "Connection: close\r\n") -> int:
    """The status of a raw request; 0 if nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)


async def test_a_socket_opens_under_known_names_only(sockets: int) -> None:
    assert await status_of(sockets, "/_event/", f"localhost:{sockets}", HANDSHAKE) == 101
    for host in (REBOUND, f"{REBOUND}:{sockets}"):
        own = f"{HANDSHAKE}Origin: http://{host}\r\n"
        assert await status_of(sockets, "/_event/", host, own) == 421
        assert await status_of(sockets, "/", host) == 421
