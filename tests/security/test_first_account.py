"""Who reaches a new installation first does not become its administrator, unless it is nobody else's to reach."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_app.accounts.identity import AccountError
from chat_app.accounts.setup_code import SetupCode
from chat_app.announcement import announce
from chat_app.serve import first_code
from chat_app.settings import Settings
from tests.parley import PASSWORD, StartParley, fleet_settings
from tests.security.doors import Door, door_to

ADA = "ada@example.org"
PUBLIC = {"public_url": "https://chat.example.org"}
OWN_PAGE = {"Origin": "https://chat.example.org"}


@pytest.fixture(params=["embedded", "fleet"])
async def column(request: pytest.FixtureRequest) -> dict[str, str]:
    return fleet_settings(request) if request.param == "fleet" else {}


@pytest.fixture
async def door(start_parley: StartParley, column: dict[str, str]) -> AsyncIterator[Door]:
    """A new installation with a public address."""
    async with door_to(await start_parley(**column, **PUBLIC)) as door:
        yield door


async def roles(door: Door) -> dict[str, str]:
    return {person.identity.email: person.identity.role for person in await door.parley.accounts.people()}


async def test_a_stranger_does_not_become_the_administrator_of_a_public_address(door: Door) -> None:
    code = await door.parley.accounts.setup_code.current()
    assert code is not None
    for guess in ("", "ABCD-ABCD-ABCD-ABCD-ABCD", code[:-1]):
        refused = await door.sign_up("eve@example.org", code=guess, **OWN_PAGE)
        assert (refused.error, refused.cookies) == ("bad_setup_code", {})
    assert await roles(door) == {}
    made = await door.sign_up(ADA, code=f" {code.lower().replace('-', ' ')} ", **OWN_PAGE)
    assert made.error == ""
    assert await roles(door) == {ADA: "admin"}


async def test_the_code_is_good_for_one_account_and_sign_up_is_closed_at_a_public_address(door: Door) -> None:
    code = await door.parley.accounts.setup_code.current() or ""
    many = (door.sign_up(f"p{n}@example.org", code=code, **OWN_PAGE) for n in range(4))
    ended = [reply.error for reply in await asyncio.gather(*many)]
    assert sorted(ended) == ["", *["signup_closed"] * 3]
    assert list((await roles(door)).values()) == ["admin"]
    assert (await door.sign_up("late@example.org", code=code, **OWN_PAGE)).error == "signup_closed"
    assert await door.parley.accounts.setup_code.current() is None
    assert await door.parley.db.query("SELECT code FROM setup_code") == []


async def test_a_code_of_no_letters_opens_nothing(door: Door) -> None:
    assert not await door.parley.accounts.setup_code.is_right("")  # None was made yet.
    assert (await door.sign_up("eve@example.org", **OWN_PAGE)).error == "bad_setup_code"
    await door.parley.accounts.setup_code.current()
    assert not await door.parley.accounts.setup_code.is_right("---")


async def test_an_account_from_the_command_line_needs_no_code_and_ends_it(door: Door) -> None:
    code = await door.parley.accounts.setup_code.current() or ""
    assert (await door.parley.accounts.create(ADA, PASSWORD)).is_admin
    assert not await door.parley.accounts.setup_code.is_right(code)
    assert (await door.sign_up("eve@example.org", code=code, **OWN_PAGE)).error == "signup_closed"


async def test_nobody_is_told_that_there_is_no_account_yet(door: Door) -> None:
    before = (await door.get("/auth/session")).body
    await door.parley.accounts.create(ADA, PASSWORD)
    assert (await door.get("/auth/session")).body == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:3000", "Host": "127.0.0.1:3000", "Sec_Fetch_Site": "same-origin"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
async def test_what_comes_from_this_machine_proves_nothing(
    start_parley: StartParley, column: dict[str, str], headers: dict[str, str]
) -> None:
    """A proxy of two lines passes on what strangers send as if it were sent here, with any header that they like."""
    async with door_to(await start_parley(**column)) as door:
        assert (await door.sign_up("eve@example.org", **headers)).error == "bad_setup_code"
        code = await door.parley.accounts.setup_code.current() or ""
        assert (await door.sign_up(ADA, code=code, **headers)).error == ""
        assert await roles(door) == {ADA: "admin"}
        assert (await door.sign_up("bob@example.org")).error == ""  # Open: nobody else reaches it.


async def test_every_replica_and_every_start_prints_the_same_code(door: Door, column: dict[str, str]) -> None:
    settings = door.parley.settings
    printed = [await asyncio.to_thread(first_code, settings) for _ in range(2)]
    codes = await asyncio.gather(*(SetupCode(door.parley.db).current() for _ in range(4)))
    assert len({*printed, *codes}) == 1
    await door.parley.accounts.create(ADA, PASSWORD)
    assert await asyncio.to_thread(first_code, settings) == ""


async def test_the_code_is_printed_with_the_address(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(door.url.rpartition(":")[2])
    said = ("127.0.0.1", port, "https://chat.example.org", "CODE-1234")
    await asyncio.to_thread(announce, *said, lives=lambda: True)
    printed = capsys.readouterr().out
    assert "https://chat.example.org" in printed
    assert "Set-up code, for the first account there: CODE-1234" in printed
    assert "https://chat.example.org/login?code=CODE-1234" in printed
    await asyncio.to_thread(announce, *said[:3], lives=lambda: True)
    assert "code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "reached",
    [
        PUBLIC,
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.0.2.1"},
        {"trusted_proxies": "127.0.0.1"},
        {"allowed_hosts": "chat.example.org"},
    ],
)
def test_sign_up_is_closed_where_others_reach_it_unless_it_is_opened(reached: dict[str, Any]) -> None:
    assert Settings().signup_is_open and Settings(host="::1").signup_is_open
    assert not Settings(**reached).signup_is_open
    assert Settings(**reached, signup="open").signup_is_open
    assert not Settings(signup="closed").signup_is_open


async def test_a_stranger_who_reaches_it_by_its_number_makes_no_account(start_parley: StartParley) -> None:
    async with door_to(await start_parley(host="0.0.0.0")) as door:
        await door.parley.accounts.create(ADA, PASSWORD)
        assert (await door.sign_up("eve@example.org")).error == "signup_closed"
        assert list(await roles(door)) == [ADA]


async def test_guessing_the_code_is_bounded(door: Door) -> None:
    await door.parley.accounts.setup_code.current()
    many = (door.sign_up("eve@example.org", code=f"GUESS-{n}", **OWN_PAGE) for n in range(70))
    ended = [reply.error for reply in await asyncio.gather(*many)]
    assert set(ended) == {"bad_setup_code", "too_many_attempts"}
    with pytest.raises(AccountError, match="set-up code"):
        await door.parley.accounts.sign_up("eve@example.org", PASSWORD, code="GUESS")
