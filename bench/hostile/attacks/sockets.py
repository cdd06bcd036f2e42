"""Attacks on the pages' socket: how often and how it is opened, and what is sent over it."""

import asyncio
import json
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from bench.hostile.crowd import Crowd
from bench.hostile.wire import NAMESPACE, Closed, Wire, framed, heading

MARK = "planted"
"""A word in what must have no effect."""
APART_S = 0.02
NUMBERS = count()
PER_PERSON = 240
"""Events a minute that one person may send, half of them at once."""


def boot(crowd: Crowd, path: str = "/login") -> str:
    """What a page sends as it connects, in JSON."""
    return json.dumps({"event": event(crowd, "boot", path, vars={})})


def event(crowd: Crowd, name: str, path: str = "/", **payload: Any) -> dict[str, Any]:
    """An event of a page. `name` is one of the target's, or a full one."""
    where = {"pathname": path, "asPath": path, "query": {}}
    return {"name": crowd.target.events.get(name, name), "payload": payload, "router_data": where}


def sent(event: Any, kind: str = "event") -> str:
    """The message that sends it."""
    return f"42{NAMESPACE},{json.dumps([kind, event])}"


async def page(crowd: Crowd, wire: Wire, path: str = "/login", token: str = "", cookie: str = "") -> bool:
    """Open a page; whether it is open."""
    if await wire.upgrade(token, cookie) == 101 and await wire.connect(boot(crowd, path)):
        return True
    crowd.refused()
    return False


async def shout(
    wire: Wire, messages: Iterable[str | bytes], heard: Callable[[str], None], apart_s: float = APART_S
) -> None:
    """Send them all; `heard` is handed what comes meanwhile, and within a second after. Raises `Closed`."""

    async def listen() -> None:
        while text := await wire.message():
            heard(text)
        raise Closed

    listening = asyncio.ensure_future(listen())
    try:
        for message in messages:
            await wire.text(message)
            await asyncio.sleep(apart_s)
        await asyncio.wait([listening], timeout=1)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def opens(crowd: Crowd, number: int) -> None:
    """Opens pages as fast as it can, and leaves them."""
    source, most = crowd.source(number, 150), crowd.target.pages_per_address
    async with crowd.wire(source) as wire:
        if await wire.upgrade() != 101:
            crowd.refused()
            return
        crowd.count(f"opened from {source}", 2 * most * (1 + crowd.lasted / 60) + 1, "pages opened above the rate")
        crowd.count(f"open from {source}", most, "pages open above the number")
        try:
            await wire.connect(boot(crowd))
        finally:
            crowd.counts[f"open from {source}"] -= 1


async def stays(crowd: Crowd, number: int) -> None:
    """Opens a page and keeps it."""
    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire):
            await shout(wire, [], lambda _: None)
            await asyncio.sleep(crowd.target.seconds)


async def says_nothing(crowd: Crowd, number: int) -> None:
    """Connects, and sends nothing at all."""
    async with crowd.wire(crowd.source(number)):
        await asyncio.sleep(crowd.target.seconds)


async def half_a_head(crowd: Crowd, number: int) -> None:
    """Begins a handshake and does not end it."""
    async with crowd.wire(crowd.source(number)) as wire:
        await wire.send(heading("GET", "/_event/?EIO=4", crowd.target.port, {"Upgrade": "websocket"})[:-2])
        await wire.rest()


async def never_connects(crowd: Crowd, number: int) -> None:
    """Opens the socket, and never says what page it is."""
    async with crowd.wire(crowd.source(number)) as wire:
        if await wire.upgrade() == 101:
            await asyncio.sleep(crowd.target.seconds)


async def half_a_frame(crowd: Crowd, number: int) -> None:
    """Announces a long message and sends its first bytes."""
    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire):
            await wire.send(framed("4" * 100_000)[:20])
            await asyncio.sleep(crowd.target.seconds)


async def long_heads(crowd: Crowd, number: int) -> None:
    """Opens the socket with as long a head as the server takes, and keeps it."""
    more = "".join(f"X-{at}: {'a' * 60_000}\r\n" for at in range(6))
    async with crowd.wire(crowd.source(number)) as wire:
        if await wire.upgrade(more=more) == 101 and await wire.connect(boot(crowd)):
            await asyncio.sleep(crowd.target.seconds)


def _of_all(crowd: Crowd, title: str) -> Iterable[str]:
    """Events that pages send, in turns."""
    yield sent(event(crowd, "ask_rename", thread_id="t", title=title))
    yield sent(event(crowd, "on_load"))
    yield sent(event(crowd, "ask_revoke", "/account", key_id=title))
    yield sent(event(crowd, "update_vars", vars={}))
    yield sent(event(crowd, "list_older"))
    yield sent(event(crowd, "boot", vars={}))
    yield sent(event(crowd, "report", info=title, component_stack=""))


async def nobodys_events(crowd: Crowd, number: int) -> None:
    """Sends events without a session."""

    def heard(text: str) -> None:
        if MARK in text:
            crowd.let_in("an event of nobody's had an effect")

    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire):
            await shout(wire, [each for _ in range(10) for each in _of_all(crowd, MARK)], heard)


async def free_events(crowd: Crowd, number: int) -> None:
    """Sends events of a free account, from many pages at once."""
    cookie = crowd.target.cookies[number % len(crowd.target.cookies)]

    def heard(text: str) -> None:
        for at in {part.partition('"')[0] for part in text.split(f'"dialog_title_rx_state_":"{MARK}-')[1:]}:
            if not crowd.counts[f"event {at}"]:  # A page that opens shows its last one once more.
                crowd.counts[f"event {at}"] = 1
                most = PER_PERSON * (0.5 + crowd.lasted / 60) + 1
                crowd.count(f"events of {cookie}", most, "events of one person above the rate")

    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire, "/", cookie=cookie):
            mine = [f"{MARK}-{next(NUMBERS)}-" for _ in range(10)]
            await shout(wire, [each for title in mine for each in _of_all(crowd, title)], heard)


async def huge_events(crowd: Crowd, number: int) -> None:
    """Sends events that are as large as they may be, and larger, of a free account."""
    huge: list[str | bytes] = [
        sent(event(crowd, "ask_rename", thread_id="t", title=MARK * 15_000)),
        sent(event(crowd, "send", form={"text": f"{MARK} " * 15_000})),
        sent(event(crowd, "make_key", form={f"name{at}": MARK for at in range(8_000)})),
        sent({**event(crowd, "ask_delete", thread_id="t", title="t"), "router_data": {"query": {MARK * 900: "1"}}}),
        sent([[[MARK] * 20] * 20] * 20),
        f"42{NAMESPACE},{'[' * 60_000}",
        sent(event(crowd, "ask_rename", thread_id="t", title=MARK * 40_000)),
        sent(event(crowd, "ask_rename", thread_id="t", title=MARK * 400_000)),
    ]

    def heard(text: str) -> None:
        if MARK in text:
            crowd.let_in("an event beyond its bounds had an effect")

    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire, "/", cookie=crowd.target.cookies[number % len(crowd.target.cookies)]):
            await shout(wire, [huge[at] for at in (*range(5), 5 + number % 3)], heard)


async def unknown_events(crowd: Crowd, number: int) -> None:
    """Sends what only the server sends, what there is not, and what the protocol knows and no page sends."""
    odd: list[str | bytes] = [
        sent(event(crowd, "hydrate")),
        sent(event(crowd, "notify", message=MARK)),
        sent(event(crowd, "setvar", var_name="notice", value=MARK)),
        sent(event(crowd, "open")),
        sent(event(crowd, f"{MARK}.event", x=1)),
        sent({"name": [MARK], "payload": MARK}),
        sent(MARK),
        sent({"message": MARK, "substate": [MARK]}, "client_error"),
    ]
    last: list[str | bytes] = [
        f'42{NAMESPACE},["connect",{{"QUERY_STRING":"token={"0" * 36}"}},{{}}]',
        f'459-{NAMESPACE},["event",{{"_placeholder":true,"num":0}}]',
        f'43{NAMESPACE},1["{MARK}"]',
        f'42/admin,["{MARK}"]',
        b"\x04" + MARK.encode(),
        "4",
        "1",
    ]

    def heard(text: str) -> None:
        if MARK in text:
            crowd.let_in("an event that no page sends had an effect")

    cookie = crowd.target.cookies[number % len(crowd.target.cookies)] if number % 2 else ""
    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire, cookie=cookie):
            await shout(wire, [*odd, last[number // 2 % len(last)]], heard)


async def others_tabs(crowd: Crowd, number: int) -> None:
    """Opens honest people's tabs by their names, without their session."""
    target = crowd.target
    forged = f"parley_session={'A' * 43}"
    cookies = ["", forged, target.cookies[0], target.former, f"__Host-{forged}", f"{target.former}; {forged}"]
    path = ("/", "/account", "/admin/moderation", "/admin/plans")[number // len(cookies) % 4]
    token = target.tabs[number % len(target.tabs)]
    async with crowd.wire(crowd.source(number)) as wire:
        if await page(crowd, wire, path, token, cookies[number % len(cookies)]):
            wanted = ("on_load", "regenerate", "stop", "load_earlier", "list_older", "boot", "find")
            await shout(wire, [sent(event(crowd, name, path)) for name in wanted], lambda _: None)
