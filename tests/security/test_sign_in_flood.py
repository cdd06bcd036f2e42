"""A flood of sign-ins: who waits behind it, who is told to come back, and who leaves the queue."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from threading import Event, Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from chat_app.accounts import passwords
from chat_app.accounts.hash_queue import AT_ONCE, BUSY_S, MOST, RESERVED
from tests.parley import PASSWORD, StartParley, fleet_settings, person
from tests.security.doors import Door, Reply, door_to


class Hashing:
    """Stands before the comparison of passwords: nobody's ends before `open`. Notes whose came to it, in order."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self._gate, self._lock = Event(), Lock()

    def open(self) -> None:
        self._gate.set()

    def around(self, matches: Callable[[str, bytes], bool]) -> Callable[[str, bytes], bool]:
        def held(hash_: str, password: bytes) -> bool:
            with self._lock:
                self.came.append(password.decode())
            self._gate.wait()
            return matches(hash_, password) if password.decode() == PASSWORD else False

        return held


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashing]:
    made = Hashing()
    monkeypatch.setattr(passwords, "_matches", made.around(passwords._matches))
    yield made
    made.open()


@pytest.fixture(params=["embedded", "fleet"])
async def door(request: pytest.FixtureRequest, start_parley: StartParley) -> AsyncIterator[Door]:
    """Whoever posts says from which address, as through a proxy."""
    settings = fleet_settings(request) if request.param == "fleet" else {}
    parley = await start_parley(**settings, trusted_proxies="127.0.0.1")
    await person(parley)
    async with door_to(parley) as door:
        yield door


def sign_in(door: Door, email: str, password: str, address: str, cookie: str = "") -> Coroutine[Any, Any, Reply]:
    headers = {"X_Forwarded_For": address, **({"Cookie": cookie} if cookie else {})}
    return door.sign_in(email, password, **headers)


async def waiting(door: Door, number: int) -> None:
    """Returns as soon as so many wait for their turn."""
    queue = door.parley.accounts._passwords._queue
    async with asyncio.timeout(20):
        while queue.waiting != number:
            await asyncio.sleep(0.01)


async def test_a_flood_from_one_address_does_not_make_another_wait_behind_all_of_it(
    door: Door, hashing: Hashing
) -> None:
    flood = [asyncio.create_task(sign_in(door, f"p{n}@x.org", f"guess {n}", "203.0.113.1")) for n in range(30)]
    await waiting(door, 30 - AT_ONCE)
    ada = asyncio.create_task(sign_in(door, "ada@example.org", PASSWORD, "198.51.100.1"))
    await waiting(door, 31 - AT_ONCE)
    hashing.open()
    assert (await ada).error == ""
    await asyncio.gather(*flood)
    assert hashing.came.index(PASSWORD) <= 2 * AT_ONCE  # Those that ran already, and one time around.


async def test_when_the_queue_is_full_a_newcomer_is_told_when_to_come_back(door: Door, hashing: Hashing) -> None:
    hashing.open()
    known = await sign_in(door, "ada@example.org", PASSWORD, "198.51.100.1")
    hashing._gate.clear()
    room = MOST - RESERVED + AT_ONCE
    crowd = [asyncio.create_task(sign_in(door, f"p{n}@x.org", f"guess {n}", f"203.0.113.{n}")) for n in range(room)]
    await waiting(door, MOST - RESERVED)
    late = await sign_in(door, "eve@example.org", "a guess", "198.51.100.2")
    assert (late.status, late.error, late.headers["Retry-After"]) == (303, "busy", str(BUSY_S))
    assert f"wait={BUSY_S}" in late.headers["Location"]
    ada = asyncio.create_task(sign_in(door, "ada@example.org", PASSWORD, "198.51.100.3", known.cookie))
    await waiting(door, MOST - RESERVED + 1)  # A device that is known has a place left.
    hashing.open()
    assert (await ada).error == ""
    assert {reply.error for reply in await asyncio.gather(*crowd)} == {"bad_credentials"}


async def test_whoever_hangs_up_leaves_the_queue(door: Door, hashing: Hashing) -> None:
    running = [asyncio.create_task(sign_in(door, f"p{n}@x.org", "a guess", "203.0.113.1")) for n in range(AT_ONCE)]
    body = urlencode({"email": "gone@example.org", "password": "gone away"})
    head = f"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    async with asyncio.timeout(20):
        while len(hashing.came) < AT_ONCE:
            await asyncio.sleep(0.01)
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(door.url).port)
    writer.write(f"POST /auth/login HTTP/1.1\r\n{head}\r\n{body}".encode())
    await waiting(door, 1)
    writer.close()
    await waiting(door, 0)
    hashing.open()
    await asyncio.gather(*running)
    assert "gone away" not in hashing.came
