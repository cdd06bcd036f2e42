"""The door before the pages' sockets: what it keeps of a request, and of whom, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_app.gateway.caller import address
from chat_app.ui.guard.door import MOST_HEADERS, SocketDoor
from tests.parley import StartParley

USUAL = [
    (b"host", b"localhost:3000"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"a2V5"),
    (b"sec-websocket-protocol", b"0.10.1"),
    (b"origin", b"http://localhost:3000"),
    (b"cookie", b"parley_session=a"),
    (b"user-agent", b"a browser"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-forwarded-proto", b"https"),
]


class Behind:
    """The app behind the door: what it was asked, each request for as long as `over` is not set."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope)
        await self.over.wait()


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
async def door(start_parley: StartParley, behind: Behind) -> AsyncIterator[SocketDoor]:
    parley = await start_parley()
    yield SocketDoor(behind, lambda: parley, address)


def request(headers: list[tuple[bytes, bytes]], peer: str = "192.0.2.7") -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": "/_event/",
        "query_string": b"EIO=4",
        "headers": headers,
        "client": (peer, 1),
        "server": ("192.0.2.1", 3000),
    }


async def knock(door: SocketDoor, scope: dict[str, Any]) -> list[Any]:
    """What a socket is sent until it is over."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door(scope, receive, send)
    return sent


async def test_of_the_headers_only_those_that_somebody_reads_are_kept(door: SocketDoor, behind: Behind) -> None:
    behind.over.set()
    scope = request([*USUAL, (b"accept-language", b"x" * 9_000), (b"x-pad", b"x" * 9_000)])
    assert await knock(door, scope) == []
    [asked] = behind.asked
    assert asked["headers"] == USUAL
    assert scope["headers"] == USUAL  # The server keeps that one.


@pytest.mark.parametrize("where", ["headers", "path", "query_string"])
async def test_a_request_that_is_too_long_is_refused(where: str, door: SocketDoor, behind: Behind) -> None:
    behind.over.set()
    scope = request(USUAL)
    fixed = sum(len(name) + len(value) for name, value in USUAL) + len(scope["path"]) + len(scope["query_string"])
    for more, refused in ((MOST_HEADERS - fixed, False), (MOST_HEADERS - fixed + 1, True)):
        long = {
            "headers": [*USUAL, (b"a", b"x" * (more - 1))],
            "path": scope["path"] + "x" * more,
            "query_string": scope["query_string"] + b"x" * more,
        }
        sent = await knock(door, request(USUAL) | {where: long[where]})
        assert sent == ([{"type": "websocket.close", "code": 1013}] if refused else [])
    assert len(behind.asked) == 1


async def test_an_address_is_forgotten_with_its_last_socket(door: SocketDoor, behind: Behind) -> None:
    open_ = [asyncio.create_task(knock(door, request(USUAL, peer))) for peer in ("192.0.2.7", "192.0.2.7", "192.0.2.8")]
    while len(behind.asked) < len(open_):
        await asyncio.sleep(0)
    assert door._open == {"192.0.2.7": 2, "192.0.2.8": 1}
    open_[0].cancel()
    await asyncio.wait(open_[:1])
    assert door._open == {"192.0.2.7": 1, "192.0.2.8": 1}
    assert len(door._outboxes._all) == 2
    behind.over.set()
    await asyncio.gather(*open_[1:])
    assert door._open == {} and not door._outboxes._all
