"""Honest people beside the crowd: on pages and with programs, each from an address of their own.

One round is a question and its whole answer, in time and word for word; who signs in anew does so once in five rounds.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import orjson

from chat_app.ui.state.chat import Chat
from tests.app import PASSWORD, RunningApp
from tests.parley import script
from tests.security.tab import Tab

PATIENCE_S = 15.0
"""How long a round may take; an answer is written for a second of it."""
APART_S = 0.3
"""Between two rounds of one person."""
ROUNDS = 5
TOKENS = 40


@dataclass(slots=True)
class Rounds:
    """How honest people's rounds went."""

    ok: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def all(self) -> int:
        return self.ok + len(self.failed)


class Failed(Exception):
    """A round that did not go as its person may expect. The message says how."""


@dataclass(slots=True)
class Person:
    """Somebody with an account. `marker` is in all that they say; `key` is for their program."""

    app: RunningApp
    email: str
    source: str
    marker: str
    cookie: str
    device: str = ""
    key: str = ""
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def said(self) -> tuple[int, str]:
        """The number of the next answer, and its text."""
        number = next(self._numbers)
        return number, " ".join(f"{self.marker}-{number}-{at}" for at in range(TOKENS))

    async def on_a_page(self) -> None:
        """One round in a browser. Raises `Failed`."""
        number, text = self.said()
        if number % ROUNDS == 0:
            await self.sign_in()
        async with Tab(self.app, self.cookie, source=self.source) as tab:
            await tab.opened()
            await tab.send(Chat.send, form={"text": script(text=text, rate=TOKENS)})
            await tab.until('"receipt":[{')
        if text not in tab.seen:
            raise Failed("not the whole answer")

    async def in_a_program(self) -> None:
        """One round over the API, streamed and not in turns. Raises `Failed`."""
        number, text = self.said()
        streamed = number % 2 == 0
        asked = {"messages": [{"role": "user", "content": script(text=text, rate=TOKENS)}], "stream": streamed}
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        async with self._http() as http, http.post("/v1/chat/completions", json=asked, headers=headers) as response:
            body = await response.read()
        if response.status != 200:
            raise Failed(f"{response.status} {body[:100]!r}")
        if _text(body, streamed) != text:
            raise Failed("not the whole answer")

    async def sign_in(self) -> None:
        """A new session in the browser that has signed in before; told to come back, they do. Raises `Failed`."""
        form = urlencode({"email": self.email, "password": PASSWORD, "back": "/login"})
        headers = {
            "Origin": f"http://localhost:{self.app.port}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": self.device,
        }
        async with self._http() as http:
            while True:
                async with http.post("/auth/login", data=form, headers=headers, allow_redirects=False) as response:
                    cookies = {name: morsel.value for name, morsel in response.cookies.items()}
                if "parley_session" in cookies:
                    self.cookie = f"parley_session={cookies['parley_session']}"
                    self.device = f"parley_device={cookies['parley_device']}"
                    return
                told = parse_qs(urlsplit(response.headers.get("Location", "")).query)
                if told.get("error") != ["busy"]:
                    raise Failed(f"signing in: {response.status} {told.get('error')}")
                await asyncio.sleep(int(told["wait"][0]))

    def _http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            f"http://127.0.0.1:{self.app.port}",
            headers={"Host": f"localhost:{self.app.port}"},
            connector=aiohttp.TCPConnector(local_addr=(self.source, 0), force_close=True),
        )


async def live(ways: "list[Callable[[], Awaitable[None]]]", seconds: float) -> Rounds:
    """Everybody does rounds until the time is over; the last ones are waited for."""
    rounds, until = Rounds(), time.monotonic() + seconds

    async def one(way: Callable[[], Awaitable[None]]) -> None:
        while (began := time.monotonic()) < until:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await way()
            except Exception as error:  # Whatever it is, this person did not get their answer.
                rounds.failed.append(f"{way.__name__}: {type(error).__name__} {str(error)[-90:]}")
            else:
                rounds.ok += 1
                rounds.seconds.append(time.monotonic() - began)
            await asyncio.sleep(APART_S)

    await asyncio.gather(*map(one, ways))
    return rounds


def _text(body: bytes, streamed: bool) -> str:
    if not streamed:
        return str(orjson.loads(body)["choices"][0]["message"]["content"])
    said = ""
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            for choice in orjson.loads(line[6:]).get("choices") or ():
                said += choice["delta"].get("content") or ""
    return said
