"""Signing in with a second factor over HTTP: two steps, a proof between them that opens nothing, and no way around."""

from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher

from chat_app.accounts import passwords
from chat_app.accounts.attempts import CODES_AT_ONCE
from chat_app.accounts.cookies import token_from
from tests.accounts.factors import App, Clock, with_factor
from tests.parley import StartParley, fleet_settings, person
from tests.security.doors import Door, Reply, door_to

ADA = "ada@example.org"
BACK = "/login?next=%2Faccount"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("chat_app.accounts.second_factor.now_ms", made.ms)
    return made


@pytest.fixture(params=["embedded", "fleet"])
async def door(
    request: pytest.FixtureRequest, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    """Hashes are cheap here: many are made."""
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    settings = fleet_settings(request) if request.param == "fleet" else {}
    parley = await start_parley(**settings, trusted_proxies="127.0.0.1", require_second_factor="staff")
    await person(parley, "root@example.org")
    async with door_to(parley) as door:
        yield door


@pytest.fixture
async def app(door: Door, clock: Clock) -> App:
    """Ada's."""
    app, _ = await with_factor(door.parley.accounts, await person(door.parley, ADA), clock)
    return app


async def enter(door: Door, proof: str, code: str, **headers: str) -> Reply:
    form = {"code": code, "next": "/account", "back": "/login?step=code"}
    return await door.post("/auth/code", form, Cookie=proof, **headers)


async def test_two_steps(door: Door, app: App) -> None:
    half = await door.post("/auth/login", {"email": ADA, "password": "correct horse battery", "back": BACK})
    assert (half.status, half.headers["location"]) == (303, f"{BACK}&step=code")
    assert set(half.cookies) == {"parley_half"}
    [cookie] = half.headers.getall("Set-Cookie")
    assert "HttpOnly" in cookie and "Max-Age=300" in cookie and "SameSite=Lax" in cookie
    wrong = await enter(door, half.cookie, "no code")
    assert (wrong.error, wrong.cookies) == ("bad_code", {})
    assert wrong.headers["location"] == "/login?step=code&error=bad_code"
    entered = await enter(door, half.cookie, app.code())
    assert (entered.status, entered.headers["location"]) == (303, "/account")
    assert entered.cookies["parley_half"] == "" and await door.who(entered.cookie) == ADA
    assert (await enter(door, half.cookie, app.code())).error == "sign_in_again"


async def test_the_proof_is_no_session_under_any_name(door: Door, app: App) -> None:
    half = await door.sign_in(ADA)
    proof = half.cookies["parley_half"]
    for cookie in (half.cookie, f"parley_session={proof}", f"__Host-parley_session={proof}"):
        assert await door.who(cookie) == ""
    assert (await door.get("/v1/models", Authorization=f"Bearer {proof}")).status == 401
    assert await door.parley.accounts.ended({proof}) == {proof}


async def test_a_code_without_the_password_opens_nothing(door: Door, app: App) -> None:
    for cookie in ("", "parley_half=", f"parley_half={'x' * 43}"):
        reply = await enter(door, cookie, app.code())
        assert (reply.error, reply.cookies) == ("sign_in_again", {})


async def test_behind_tls_the_proof_cannot_be_planted(door: Door, app: App) -> None:
    half = await door.sign_in(ADA, X_Forwarded_Proto="https")
    assert set(half.cookies) == {"__Host-parley_half"}
    assert "Secure" in half.headers["set-cookie"]
    planted = await enter(door, f"parley_half={half.cookies['__Host-parley_half']}", app.code())
    assert planted.error == "sign_in_again"
    assert (await enter(door, half.cookie, app.code(), X_Forwarded_Proto="https")).error == ""


async def test_a_foreign_site_cannot_post_a_code(door: Door, app: App) -> None:
    half = await door.sign_in(ADA)
    assert (await enter(door, half.cookie, app.code(), Origin="https://evil.example")).status == 403
    assert (await enter(door, half.cookie, app.code())).error == ""


async def test_guessing_is_slowed_down_and_the_known_device_still_comes_in(door: Door, app: App, clock: Clock) -> None:
    entered = await enter(door, (await door.sign_in(ADA)).cookie, app.code())
    clock.step += 1
    half = await door.sign_in(ADA)
    ends = [
        (await enter(door, half.cookie, "000 00x", X_Forwarded_For=f"203.0.113.{n}")).error
        for n in range(3 * CODES_AT_ONCE)
    ]
    assert set(ends) == {"bad_code", "too_many_attempts"} and ends[0] == "bad_code"
    late = await enter(door, half.cookie, app.code(), X_Forwarded_For="192.0.2.9")
    assert late.error == "too_many_attempts" and int(late.headers["Retry-After"]) > 0
    assert (
        await enter(door, f"{half.cookie}; parley_device={entered.cookies['parley_device']}", app.code())
    ).error == ""


async def test_who_needs_one_and_has_none_is_nobody_yet(door: Door, clock: Clock) -> None:
    root = await door.sign_in("root@example.org")
    assert await door.who(root.cookie) == ""
    assert '"must_set_up_second_factor":true' in (await door.get("/auth/session", Cookie=root.cookie)).body
    await person(door.parley, "eve@example.org")
    assert await door.who((await door.sign_in("eve@example.org")).cookie) == "eve@example.org"
    who = await door.parley.accounts.by_email("root@example.org")
    assert who is not None
    here = token_from(root.cookie)
    assert here is not None
    await with_factor(door.parley.accounts, who, clock, keep=here)
    assert await door.who(root.cookie) == "root@example.org"
