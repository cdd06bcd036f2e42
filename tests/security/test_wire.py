"""The connection of one request is reset, and no other."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from chat_app.ui.guard.wire import reset

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["IPv4", "IPv6"])
def pairs(request: pytest.FixtureRequest) -> Iterator[list[Pair]]:
    """Two connections to one server, each as its client and the server have it."""
    host, family = request.param
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((host, 0), family=family))
        made = []
        for _ in range(2):
            client = stack.enter_context(socket.create_connection(listening.getsockname()[:2]))
            client.settimeout(10)
            made.append((client, stack.enter_context(listening.accept()[0])))
        yield made


@pytest.mark.parametrize("port", [int, str])
def test_it_ends_at_once_without_what_waits_and_the_others_stay(pairs: list[Pair], port: Any) -> None:
    (client, served), (other, served_beside) = pairs
    served.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            served.send(bytes(65_536))
    (host, number), there = served.getsockname()[:2], client.getsockname()
    assert reset({"server": (host, port(number)), "client": (there[0], port(there[1]))})
    with pytest.raises(BrokenPipeError):
        served.send(b"x")
    served.close()
    with pytest.raises(ConnectionResetError):
        while client.recv(65_536):
            pass
    served_beside.send(b"here")
    assert other.recv(4) == b"here"


def test_what_is_no_connection_of_this_process_is_left_alone(pairs: list[Pair]) -> None:
    (client, served), _ = pairs
    host, number = served.getsockname()[:2]
    for scope in (
        {"server": (host, number), "client": (host, number)},
        {"server": (host, number + 1), "client": client.getsockname()},
        {"server": (host, number), "client": None},
        {"server": ("/run/parley.sock", None), "client": client.getsockname()},
        {},
    ):
        assert not reset(scope)
    served.send(b"here")
    assert client.recv(4) == b"here"
