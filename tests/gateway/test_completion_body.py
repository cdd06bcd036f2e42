"""Large bodies of one person: a few are read at a time, and the others do not wait longer than their places last."""

import asyncio
from collections.abc import Callable

import pytest

from chat_app.gateway import completion_body
from chat_app.gateway.completion_body import LARGE_AT_ONCE, SMALL, WAIT_S, Bodies
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.edge import BODY_S
from chat_app.gateway.errors import ApiError
from chat_app.settings import Settings
from chat_app.turn.admit import PLACE_TTL_MS


class Sender:
    """A program whose body comes, or which hangs up, when the test says so."""

    def __init__(self, bodies: Bodies, understand: Callable[[bytes], int] = len) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.hangs_up = False
        connection = Connection(self._receive, self._send)
        self.read = asyncio.create_task(bodies.read(connection, SMALL + 1, "ada", understand))

    async def _receive(self) -> dict[str, object]:
        self.asked.set()
        await self.go_on.wait()
        return {"type": "http.disconnect"} if self.hangs_up else {"type": "http.request", "body": b"x" * 10}

    async def _send(self, message: object) -> None: ...


async def all_taken(bodies: Bodies) -> list[Sender]:
    """As many as are read at a time, all of them waiting for their bodies."""
    senders = [Sender(bodies) for _ in range(LARGE_AT_ONCE)]
    for sender in senders:
        await asyncio.wait_for(sender.asked.wait(), 10)
    return senders


async def test_a_body_waits_for_others_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = Bodies(4_000_000)
    senders = await all_taken(bodies)
    monkeypatch.setattr(completion_body, "WAIT_S", 0.05)
    late = Sender(bodies)
    with pytest.raises(ApiError) as error:
        await asyncio.wait_for(late.read, 10)
    assert (error.value.status, error.value.code) == (429, "too_many_bodies")
    assert error.value.headers == {"Retry-After": "5"}
    assert not late.asked.is_set()
    monkeypatch.undo()
    waiting = Sender(bodies)
    senders[0].go_on.set()
    await asyncio.wait_for(waiting.asked.wait(), 10)  # Who gave up took no turn with it.
    for sender in (*senders, waiting):
        sender.go_on.set()
    assert [await sender.read for sender in (*senders, waiting)] == [10] * (LARGE_AT_ONCE + 1)


@pytest.mark.parametrize("trouble", ["hangs up", "makes no sense", "is cancelled"])
async def test_a_body_that_comes_to_nothing_makes_room(trouble: str) -> None:
    def nonsense(_: bytes) -> int:
        raise ValueError(trouble)

    bodies = Bodies(4_000_000)
    broken = Sender(bodies, nonsense)
    others = [Sender(bodies) for _ in range(LARGE_AT_ONCE)]
    await asyncio.wait_for(broken.asked.wait(), 10)
    assert not others[-1].asked.is_set()
    broken.hangs_up = trouble == "hangs up"
    broken.read.cancel() if trouble == "is cancelled" else broken.go_on.set()
    with pytest.raises((HungUp, ValueError, asyncio.CancelledError)):
        await broken.read
    await asyncio.wait_for(others[-1].asked.wait(), 10)
    for other in others:
        other.go_on.set()
    assert await asyncio.gather(*(other.read for other in others)) == [10] * LARGE_AT_ONCE


def test_a_place_outlasts_all_that_comes_before_its_heartbeat() -> None:
    """The wait, the body, and the two heartbeats until one is sure to have renewed it."""
    heartbeat_s = Settings().lease_ms / 3 / 1000
    assert WAIT_S + BODY_S + 2 * heartbeat_s <= PLACE_TTL_MS / 1000 * 0.75
