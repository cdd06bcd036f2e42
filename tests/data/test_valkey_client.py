"""Connections to Valkey: which kind an address asks for, and which errors mean that the server is away."""

import pytest
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from chat_app.data.valkey import connect, not_now, reached


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:1/0", Connection),
        ("valkey://127.0.0.1:1/0", Connection),
        ("rediss://127.0.0.1:1/0", SSLConnection),
        ("valkeys://127.0.0.1:1/0", SSLConnection),
        ("unix:///nowhere/valkey.sock", UnixDomainSocketConnection),
    ],
)
def test_an_address_says_how_the_server_is_reached(url: str, kind: type) -> None:
    assert type(connect(url).connection_pool.make_connection()) is kind


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionError("gone"), True),
        (TimeoutError("slow"), True),
        (BusyLoadingError("loading"), True),
        (OutOfMemoryError("full"), True),
        (ReadOnlyError("a replica"), True),
        (OSError("no route"), True),
        (ResponseError("MISCONF cannot write to disk"), True),
        (ResponseError("BUSY a script is running"), True),
        (ResponseError("WRONGTYPE not a stream, MISCONF or not"), False),
        (NoScriptError("no such script"), False),
        (ValueError("MISCONF"), False),
    ],
    ids=repr,
)
def test_an_error_says_whether_the_server_is_away(error: Exception, away: bool) -> None:
    assert not_now(error) is away
    with pytest.raises(LookupError if away else type(error)) as raised, reached(LookupError, "the leases"):
        raise error
    assert str(raised.value) == (f"the leases cannot be reached: {error}" if away else str(error))


def test_a_wrong_password_is_a_connection_that_does_not_come_about() -> None:
    assert not_now(AuthenticationError("WRONGPASS"))
