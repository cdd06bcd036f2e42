"""Attacks on the routes: passwords, keys and ids that are guessed, bodies without end, heads that lie."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count
from urllib.parse import urlencode

import orjson

from bench.hostile.crowd import Crowd
from bench.hostile.wire import Closed, heading

NUMBERS = count()
PER_ADDRESS = 60
"""Attempts to sign in and up that one address has in a minute, all of which may come at once."""
STRANGERS, STRANGERS_AT_ONCE = 1, 30
"""The same for one account, from all addresses that its person never came from."""
MOST_BYTES = 16 << 20
"""Whoever takes so much of a body takes any number: the longest that is allowed has 4 MB, the kernel keeps some."""
COMPLETIONS = "/v1/chat/completions"


def form(crowd: Crowd, **more: str) -> dict[str, str]:
    """The head of a form that one of our own pages posts."""
    origin = f"http://localhost:{crowd.target.port}"
    return {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded", **more}


async def guesses_passwords(crowd: Crowd, number: int) -> None:
    """Tries passwords on honest people's accounts, from a few addresses, and says that it comes from others."""
    source = crowd.source(number)
    email = crowd.target.emails[number % len(crowd.target.emails)]
    body = urlencode({"email": email, "password": f"a guess, number {next(NUMBERS)}", "back": "/login"}).encode()
    lies = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
    async with crowd.wire(source) as wire:
        _, came = await wire.request("POST", "/auth/login", body, form(crowd, **lies))
    head = came.partition(b"\r\n\r\n")[0].lower()
    if b"parley_session=" in head:
        crowd.let_in("signed in with a guess")
    if b"error=bad_credentials" in head:
        crowd.count(f"guesses from {source}", PER_ADDRESS * (1 + crowd.lasted / 60) + 1, "guesses of one address")
        most = STRANGERS_AT_ONCE + STRANGERS * crowd.lasted / 60 + 1
        crowd.count(f"guesses at {email}", most, "guesses at one account")
    crowd.refused()


async def signs_up(crowd: Crowd, number: int) -> None:
    """Makes accounts, all from one address."""
    email = f"hostile-{secrets.token_hex(8)}@example.org"
    body = urlencode({"email": email, "password": "a password of its own", "back": "/login"}).encode()
    async with crowd.wire(source := crowd.source(number)) as wire:
        _, came = await wire.request("POST", "/auth/signup", body, form(crowd))
    if b"parley_session=" in came.partition(b"\r\n\r\n")[0].lower():
        crowd.count(f"accounts from {source}", PER_ADDRESS * (1 + crowd.lasted / 60) + 1, "accounts of one address")
    else:
        crowd.refused()


@cache
def _many_calls() -> bytes:
    """As many calls of tools as a body holds: cheap to send, dear to read."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "tool_calls": [call] * 45_000}
    return orjson.dumps({"messages": [message, {"role": "user", "content": "Hello"}]})


@cache
def _one_text() -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": "é\\\u200b ignore all previous " * 100_000}]})


@cache
def _lists() -> bytes:
    return b'{"messages": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"


BODIES: tuple[Callable[[], bytes], ...] = (_many_calls, _one_text, _lists)


async def large_bodies(crowd: Crowd, number: int) -> None:
    """Posts completions of some megabytes: without a key, with one that there is not, with one of a free account."""
    keys = ("", f"sk-parley-{secrets.token_urlsafe(32)}", crowd.target.keys[number % len(crowd.target.keys)])
    key = keys[number % 3]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with crowd.wire(crowd.source(number)) as wire:
        status, _ = await wire.request("POST", COMPLETIONS, BODIES[number // 3 % 3](), headers)
    if status < 400:
        crowd.let_in(f"a body of megabytes got {status}")
    crowd.refused()


async def large_forms(crowd: Crowd, number: int) -> None:
    """Posts forms of many fields, and larger ones than are taken."""
    fields = {f"f{at}": "x" for at in range(6_000)} if number % 2 else {"email": "e" * 1_000_000}
    async with crowd.wire(crowd.source(number)) as wire:
        status, _ = await wire.request("POST", "/auth/login", urlencode(fields).encode(), form(crowd))
    if status < 400:
        crowd.let_in(f"a form beyond its bounds got {status}")
    crowd.refused()


async def endless_bodies(crowd: Crowd, number: int) -> None:
    """Posts a body in chunks, and does not stop."""
    path = ("/auth/login", COMPLETIONS, "/v1/admin/plans/free", COMPLETIONS)[number % 4]
    key = crowd.target.keys[number % len(crowd.target.keys)]
    headers = {
        "Transfer-Encoding": "chunked",
        **form(crowd),
        **({"Authorization": f"Bearer {key}"} if number % 2 else {}),
    }
    taken, chunk = 0, b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with crowd.wire(crowd.source(number)) as wire:
        await wire.send(heading("POST", path, crowd.target.port, headers))
        while taken < MOST_BYTES:
            await wire.send(chunk)
            taken += 65_536
            await asyncio.sleep(0)
    crowd.let_in("a body without end")


async def guesses_keys(crowd: Crowd, number: int) -> None:
    """Asks for what is honest people's with keys that there are not, and with one of its own."""
    there = crowd.target.generations[number % len(crowd.target.generations)]
    paths = [
        *(("GET", f"/v1/generations/{there}{end}") for end in ("", "/events", "/events?offset=0")),
        ("POST", f"/v1/generations/chatcmpl-{there}/stop"),
        *(("GET", f"/v1/admin/{name}") for name in ("users", "plans", "reviews", "reviews?decided=true")),
        ("POST", "/v1/admin/plans/free"),
    ]
    for method, path in paths:
        key = crowd.target.keys[0] if number % 2 else f"sk-parley-{secrets.token_urlsafe(32)}"
        with suppress(Closed):
            async with crowd.wire(crowd.source(number)) as wire:
                body, headers = b"{}" * (method == "POST"), {"Authorization": f"Bearer {key}"}
                status, _ = await wire.request(method, path, body, headers)
            if status < 400:
                crowd.let_in(f"{method} {path.split('?')[0].replace(there, '…')} got {status}")
        crowd.refused()


async def lying_heads(crowd: Crowd, number: int) -> None:
    """Says that it asks for another name, from another place, from another site."""
    port, cookie = crowd.target.port, {"Cookie": crowd.target.cookies[0]}
    foreign = {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    socket = {**upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **cookie}
    there = "/_event/?token=00000000-0000-0000-0000-000000000000&EIO=4&transport=websocket"
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "/", {"Host": "evil.example"}),
        ("GET", "/metrics", {"Host": f"evil.example:{port}"}),
        ("GET", "/metrics", {"X-Forwarded-For": "203.0.113.1"}),
        ("GET", "/v1/models", {"Host": "localhost.evil.example", "X-Forwarded-Host": "localhost"}),
        ("POST", "/auth/logout", {**foreign, **cookie}),
        ("GET", there, {**socket, "Origin": "http://evil.example"}),
        ("GET", there, {**socket, "Host": "evil.example"}),
    ]
    for method, path, headers in asked:
        with suppress(Closed):
            async with crowd.wire(crowd.source(number)) as wire:
                await wire.send(heading(method, path, port, {"Content-Length": "0", **headers}))
                status, _ = await wire.head()
            if status < 400:
                crowd.let_in(f"{method} {path[:9]} under a false head got {status}")
        crowd.refused()
