"""The forms: in, up and out, with the cookie, against foreign sites, and never a password in an address."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.gateway.served import Served, serving
from tests.parley import PASSWORD, StartParley, person


async def post(served: Served, path: str, headers: dict[str, str] | None = None, **form: str) -> Any:
    """The answer to a posted form, redirects not followed, with its status and headers."""
    async with served.http.post(served.url + path, data=form, headers=headers or {}, allow_redirects=False) as response:
        await response.read()
        return response


async def session(served: Served, cookie: str = "") -> Any:
    async with served.http.get(f"{served.url}/auth/session", headers={"Cookie": cookie}) as response:
        assert response.headers["cache-control"] == "no-store"
        return await response.json()


def cookie_of(response: Any) -> str:
    return str(response.headers["set-cookie"]).partition(";")[0]


async def test_in_and_out(served: Served) -> None:
    entered = await post(served, "/auth/login", email="Ada@example.org", password=PASSWORD, next="/c/1?x=y")
    assert (entered.status, entered.headers["location"]) == (303, "/c/1?x=y")
    assert "HttpOnly" in entered.headers["set-cookie"]
    cookie = cookie_of(entered)
    user = (await session(served, cookie))["user"]
    assert (user["email"], user["role"], user["plan"]) == ("ada@example.org", "user", "free")
    left = await post(served, "/auth/logout", {"Cookie": cookie}, next="/login")
    assert (left.status, left.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in left.headers["set-cookie"]
    assert (await session(served, cookie))["user"] is None


async def test_signing_up(served: Served) -> None:
    made = await post(served, "/auth/signup", email="new@example.org", password=PASSWORD, name="Neu")
    assert (made.status, made.headers["location"]) == (303, "/")
    body = await session(served, cookie_of(made))
    assert body["user"]["name"] == "Neu"
    assert body["signup"] == "open"


async def test_signing_in_again_ends_the_old_session(served: Served) -> None:
    first = cookie_of(await post(served, "/auth/login", email="ada@example.org", password=PASSWORD))
    await post(served, "/auth/login", {"Cookie": first}, email="ada@example.org", password=PASSWORD)
    assert (await session(served, first))["user"] is None


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("/auth/login", {"email": "ada@example.org", "password": "secret-guess"}, "bad_credentials"),
        ("/auth/login", {"email": "eve@example.org", "password": "secret-guess"}, "bad_credentials"),
        ("/auth/login", {}, "bad_credentials"),
        ("/auth/signup", {"email": "ada@example.org", "password": "secret-guess"}, "email_taken"),
        ("/auth/signup", {"email": "nonsense", "password": "secret-guess"}, "bad_email"),
        ("/auth/signup", {"email": "x@example.org", "password": "secret"}, "bad_password"),
        ("/auth/signup", {"email": "x@example.org", "password": "password1234"}, "weak_password"),
    ],
)
async def test_a_failure_goes_back_with_its_code(served: Served, path: str, form: dict[str, str], code: str) -> None:
    response = await post(served, path, **form, back="/login?next=%2Fc")
    assert response.status == 303
    there = urlsplit(response.headers["location"])
    assert (there.netloc, there.path) == ("", "/login")
    assert parse_qs(there.query) == {"next": ["/c"], "error": [code]}
    assert "set-cookie" not in response.headers
    assert "secret" not in response.headers["location"]


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\r\nx: y", ""])
async def test_nobody_is_led_to_another_site(served: Served, path: str) -> None:
    good = await post(served, "/auth/login", email="ada@example.org", password=PASSWORD, next=path)
    assert good.headers["location"] == "/"
    bad = await post(served, "/auth/login", email="ada@example.org", password="wrong one", back=path)
    assert bad.headers["location"] == "/?error=bad_credentials"


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_foreign_sites_cannot_post(served: Served, headers: dict[str, str]) -> None:
    cookie = cookie_of(await post(served, "/auth/login", email="ada@example.org", password=PASSWORD))
    for path in ("/auth/login", "/auth/signup", "/auth/logout"):
        refused = await post(served, path, {**headers, "Cookie": cookie}, email="a@b.c", password=PASSWORD)
        assert refused.status == 403
        assert "set-cookie" not in refused.headers
    assert (await session(served, cookie))["user"] is not None


async def test_a_form_from_the_development_server_returns_there(served: Served) -> None:
    origin = {"Origin": "http://localhost:3000"}
    response = await post(served, "/auth/login", origin, email="ada@example.org", password=PASSWORD, next="/c")
    assert response.headers["location"] == "http://localhost:3000/c"


async def test_guessing_is_slowed_down(served: Served) -> None:
    # At once, so that on a slow machine no attempt is forgotten before the last is made.
    guess = {"email": "ada@example.org", "password": "not it at all", "back": "/login"}
    answers = await asyncio.gather(*(post(served, "/auth/login", **guess) for _ in range(13)))
    said = [parse_qs(urlsplit(answer.headers["location"]).query) for answer in answers]
    late = [query for query in said if query["error"] == ["too_many_attempts"]]
    assert [query["error"] for query in said if query not in late] == [["bad_credentials"]] * (13 - len(late))
    assert 1 <= len(late) <= 3
    assert all(1 <= int(query["wait"][0]) <= 60 for query in late)


async def test_forms_are_bounded(served: Served) -> None:
    big = await post(served, "/auth/login", email="ada@example.org", password="x" * 100_000)
    assert big.status == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    async def undeclared() -> AsyncIterator[bytes]:
        yield b"email=ada@example.org&password="
        for _ in range(20):
            yield b"x" * 4_096

    async with served.http.post(f"{served.url}/auth/login", data=undeclared(), headers=form) as response:
        assert response.status == 413
    many = await post(served, "/auth/login", **{f"f{n}": "x" for n in range(100)})
    assert many.status == 400


async def test_a_form_is_posted_not_fetched(served: Served) -> None:
    async with served.http.get(f"{served.url}/auth/login?email=a&password=b") as response:
        assert response.status == 405


async def test_the_cookie_is_secure_where_the_public_address_is(start_parley: StartParley) -> None:
    parley = await start_parley(public_url="https://chat.example.org")
    who = await person(parley)
    async with serving(parley) as url, aiohttp.ClientSession() as http:
        served = Served(parley, url, who, "", http)
        own = {"Origin": "https://chat.example.org"}
        response = await post(served, "/auth/login", own, email="ada@example.org", password=PASSWORD)
        assert "; Secure" in response.headers["set-cookie"]
        assert response.headers["location"] == "https://chat.example.org/"
