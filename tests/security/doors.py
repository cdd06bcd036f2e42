"""What a stranger can send to a served gateway: forms and requests with whatever headers they like."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import aiohttp

from chat_app.wiring import Parley
from tests.gateway.served import serving
from tests.parley import PASSWORD


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, its body read. `error` is what a form came back with, '' if it was taken."""

    status: int
    headers: "aiohttp.typedefs.LooseHeaders"
    body: str
    error: str
    cookies: dict[str, str]

    @property
    def cookie(self) -> str:
        """The `Cookie` header of a browser that got this."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())


@dataclass(frozen=True, slots=True)
class Door:
    """A served Parley, from outside. It keeps no cookies."""

    parley: Parley
    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> Reply:
        async with self.http.get(self.url + path, headers=_named(headers), allow_redirects=False) as response:
            return await _reply(response)

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Reply:
        there = self.url + path
        async with self.http.post(there, data=form, headers=_named(headers), allow_redirects=False) as response:
            return await _reply(response)

    async def sign_in(self, email: str, password: str = PASSWORD, **headers: str) -> Reply:
        return await self.post("/auth/login", {"email": email, "password": password, "back": "/login"}, **headers)

    async def sign_up(self, email: str, password: str = PASSWORD, code: str = "", **headers: str) -> Reply:
        form = {"email": email, "password": password, "code": code, "back": "/login"}
        return await self.post("/auth/signup", form, **headers)

    async def who(self, cookie: str) -> str:
        """The e-mail address of who is signed in with this cookie; '' for nobody."""
        async with self.http.get(f"{self.url}/auth/session", headers={"Cookie": cookie}) as response:
            user = (await response.json())["user"]
            return str(user["email"]) if user else ""


@asynccontextmanager
async def door_to(parley: Parley) -> AsyncIterator[Door]:
    """Serve a Parley for as long as the block lasts."""
    jar = aiohttp.DummyCookieJar()
    connector = aiohttp.TCPConnector(limit=0)
    async with serving(parley) as url, aiohttp.ClientSession(cookie_jar=jar, connector=connector) as http:
        yield Door(parley, url, http)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    cookies: dict[str, str] = {}
    for value in response.headers.getall("Set-Cookie", []):
        cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
    asked = parse_qs(urlsplit(response.headers.get("Location", "")).query)
    error = asked.get("error", [""])[0]
    return Reply(response.status, response.headers, await response.text(), error, cookies)
