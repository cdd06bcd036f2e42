"""The session's cookie: Secure and `__Host-` wherever the browser speaks TLS, and nobody is signed out by that."""

from collections.abc import AsyncIterator

import pytest

from chat_app.wiring import Parley
from tests.parley import StartParley, fleet_settings, person
from tests.security.doors import Door, door_to

ADA = "ada@example.org"
SESSION, DEVICE = "parley_session", "parley_device"


@pytest.fixture(params=["embedded", "fleet"])
async def door(request: pytest.FixtureRequest, start_parley: StartParley) -> AsyncIterator[Door]:
    """Without a public address, this machine being a trusted proxy."""
    settings = fleet_settings(request) if request.param == "fleet" else {}
    parley = await start_parley(**settings, trusted_proxies="127.0.0.1")
    await person(parley, ADA)
    async with door_to(parley) as door:
        yield door


def change(parley: Parley, **settings: object) -> None:
    parley.settings = parley.settings.model_copy(update=settings)


async def test_behind_tls_the_cookies_are_secure_and_of_this_host_alone(door: Door) -> None:
    entered = await door.sign_in(ADA, X_Forwarded_Proto="https")
    assert set(entered.cookies) == {f"__Host-{SESSION}", f"__Host-{DEVICE}"}
    for value in entered.headers.getall("Set-Cookie"):
        assert {"Secure", "HttpOnly", "Path=/"} <= set(value.split("; ")) and "Domain" not in value
    assert await door.who(entered.cookie) == ADA
    left = await door.post("/auth/logout", {}, Cookie=entered.cookie)
    assert await door.who(entered.cookie) == ""
    assert left.cookies == {f"__Host-{SESSION}": "", SESSION: ""}


async def test_without_tls_they_are_plain(door: Door) -> None:
    entered = await door.sign_in(ADA)
    assert set(entered.cookies) == {SESSION, DEVICE}
    assert not any("Secure" in value for value in entered.headers.getall("Set-Cookie"))
    assert await door.who(entered.cookie) == ADA


async def test_a_stranger_cannot_say_that_there_was_tls(door: Door) -> None:
    change(door.parley, trusted_proxies="")
    assert set((await door.sign_in(ADA, X_Forwarded_Proto="https")).cookies) == {SESSION, DEVICE}


async def test_a_public_address_or_the_setting_makes_them_secure_too(door: Door) -> None:
    change(door.parley, public_url="https://chat.example.org")
    origin = {"Origin": "https://chat.example.org"}
    assert f"__Host-{SESSION}" in (await door.sign_in(ADA, **origin)).cookies
    change(door.parley, secure_cookies=False)
    assert SESSION in (await door.sign_in(ADA, **origin)).cookies
    change(door.parley, public_url="", secure_cookies=True)
    assert f"__Host-{SESSION}" in (await door.sign_in(ADA)).cookies


async def test_the_new_name_signs_nobody_out(door: Door) -> None:
    before = await door.sign_in(ADA)
    change(door.parley, public_url="https://chat.example.org")
    assert await door.who(before.cookie) == ADA
    after = await door.sign_in(ADA, Cookie=before.cookie, Origin="https://chat.example.org")
    assert set(after.cookies) == {f"__Host-{SESSION}", f"__Host-{DEVICE}"}
    assert await door.who(f"{before.cookie}; {after.cookie}") == ADA
    assert await door.who(before.cookie) == ""  # The session that the browser had before is over.


async def test_a_session_that_another_site_of_the_domain_plants_is_none(door: Door) -> None:
    mallory = await door.sign_in(ADA, X_Forwarded_Proto="https")
    planted = f"{SESSION}={mallory.cookies[f'__Host-{SESSION}']}"
    assert await door.who(planted) == ""
