"""Who tries to get into somebody's account from elsewhere does not keep its owner out."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher

from chat_app.accounts import devices, passwords
from chat_app.accounts.attempts import PER_EMAIL, STRANGERS_AT_ONCE
from chat_app.accounts.devices import KNOWN_MS
from chat_app.accounts.identity import AccountError
from chat_app.accounts.people import Accounts
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms
from chat_app.telemetry.pseudonyms import Pseudonyms
from tests.parley import PASSWORD, StartParley, fleet_settings, person
from tests.security.doors import Door, door_to

ADA = "ada@example.org"
HOME = "198.51.100.1"


@pytest.fixture(params=["embedded", "fleet"])
async def door(
    request: pytest.FixtureRequest, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    """Whoever posts says from which address, as through a proxy. Hashes are cheap here: many are made."""
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    settings = fleet_settings(request) if request.param == "fleet" else {}
    parley = await start_parley(**settings, trusted_proxies="127.0.0.1")
    await person(parley, ADA)
    async with door_to(parley) as door:
        yield door


async def guesses(door: Door, number: int, address: str = "203.0.113.{}") -> list[str]:
    """What guesses at Ada's password end with, all at once, each from the address with its number in it."""
    many = (door.sign_in(ADA, f"guess {n}", X_Forwarded_For=address.format(n)) for n in range(number))
    return [reply.error for reply in await asyncio.gather(*many)]


async def test_ten_tries_from_elsewhere_do_not_keep_a_person_out(door: Door) -> None:
    assert "too_many_attempts" in await guesses(door, PER_EMAIL + 5, "203.0.113.1")
    assert (await door.sign_in(ADA, X_Forwarded_For=HOME)).error == ""


async def test_many_addresses_are_bounded_together_and_who_was_here_before_still_comes_in(door: Door) -> None:
    before = await door.sign_in(ADA, X_Forwarded_For=HOME)
    assert set(await guesses(door, STRANGERS_AT_ONCE + 10)) == {"bad_credentials", "too_many_attempts"}
    assert (await door.sign_in(ADA, X_Forwarded_For="192.0.2.1")).error == "too_many_attempts"  # A stranger, too.
    assert (await door.sign_in(ADA, X_Forwarded_For=HOME)).error == ""
    there = await door.sign_in(ADA, X_Forwarded_For="192.0.2.1", Cookie=before.cookie)
    assert there.error == ""
    assert (await door.sign_in(ADA, X_Forwarded_For="192.0.2.1")).error == ""  # From now on known by that as well.


async def test_a_device_of_one_account_is_a_stranger_to_another(door: Door) -> None:
    await person(door.parley, "eve@example.org")
    eve = await door.sign_in("eve@example.org", X_Forwarded_For="192.0.2.1")
    await guesses(door, STRANGERS_AT_ONCE + 10)
    refused = await door.sign_in(ADA, X_Forwarded_For="192.0.2.1", Cookie=eve.cookie)
    assert refused.error == "too_many_attempts"


async def test_a_device_that_is_known_is_bounded_by_itself(door: Door) -> None:
    known = (await door.sign_in(ADA, X_Forwarded_For=HOME)).cookie
    many = (door.sign_in(ADA, "a guess", X_Forwarded_For=f"203.0.113.{n}", Cookie=known) for n in range(PER_EMAIL + 5))
    assert "too_many_attempts" in [reply.error for reply in await asyncio.gather(*many)]
    assert (await door.sign_in(ADA, X_Forwarded_For=HOME)).error == ""


async def test_a_failed_attempt_makes_no_device_known_and_a_new_password_forgets_them(door: Door) -> None:
    failed = await door.sign_in(ADA, "a guess", X_Forwarded_For=HOME)
    assert failed.cookies == {}
    assert await known_devices(door) == 0
    await door.sign_in(ADA, X_Forwarded_For=HOME)
    assert await known_devices(door) == 1
    [ada] = await door.parley.accounts.people("ada")
    await door.parley.accounts.change_password(ada.identity.user_id, PASSWORD, "another password")
    assert await known_devices(door) == 0


async def test_devices_are_few_and_a_program_without_cookies_does_not_push_the_others_out(door: Door) -> None:
    kept = await door.sign_in(ADA, X_Forwarded_For="192.0.2.1")
    await door.parley.db.batch(Statement("UPDATE known_device SET seen_at = seen_at - 1000"))
    for _ in range(8):
        await door.sign_in(ADA, X_Forwarded_For=HOME)
    assert await known_devices(door) == 1 + 5
    await guesses(door, STRANGERS_AT_ONCE + 10)
    assert (await door.sign_in(ADA, X_Forwarded_For="192.0.2.77", Cookie=kept.cookie)).error == ""


async def test_a_device_is_known_for_a_year_by_itself_and_by_its_address(door: Door) -> None:
    known = (await door.sign_in(ADA, X_Forwarded_For=HOME)).cookie
    await guesses(door, STRANGERS_AT_ONCE + 10)
    for age_ms, error in ((KNOWN_MS + 1, "too_many_attempts"), (KNOWN_MS - 60_000, "")):
        for elsewhere in ({"X_Forwarded_For": HOME}, {"X_Forwarded_For": "192.0.2.1", "Cookie": known}):
            await door.parley.db.batch(Statement("UPDATE known_device SET seen_at = $1", (now_ms() - age_ms,)))
            assert (await door.sign_in(ADA, **elsewhere)).error == error


async def test_devices_that_are_known_no_more_are_purged(door: Door) -> None:
    await person(door.parley, "eve@example.org")
    for email in (ADA, "eve@example.org"):
        await door.sign_in(email, X_Forwarded_For=HOME)
    [ada] = await door.parley.accounts.people("ada")
    update = "UPDATE known_device SET seen_at = $1 WHERE user_id "
    await door.parley.db.batch(
        Statement(f"{update} = $2", (now_ms() - KNOWN_MS - 1, ada.identity.user_id)),
        Statement(f"{update} <> $2", (now_ms() - KNOWN_MS + 60_000, ada.identity.user_id)),
    )
    await door.parley.purge.purge_now()
    [left] = await door.parley.db.query("SELECT user_id FROM known_device")
    assert left["user_id"] != ada.identity.user_id


async def test_more_devices_than_one_statement_forgets_are_all_purged(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "AT_ONCE", 2)
    for _ in range(5):
        await door.sign_in(ADA, X_Forwarded_For=HOME)
    await door.parley.db.batch(Statement("UPDATE known_device SET seen_at = 1"))
    await door.parley.purge.purge_now()
    assert await known_devices(door) == 0


async def test_nobody_can_tell_an_address_from_what_is_kept_of_it(door: Door) -> None:
    """Every address can be tried: only a key keeps a name for one from being turned back."""
    await door.sign_in(ADA, X_Forwarded_For=HOME)
    [row] = await door.parley.db.query("SELECT network FROM known_device")
    key = (door.parley.settings.home / "telemetry.key").read_bytes()
    assert row["network"] == Pseudonyms(key).of(f"address {HOME}") != Pseudonyms(bytes(32)).of(f"address {HOME}")


async def test_an_address_that_was_not_noted_makes_nobody_known(door: Door) -> None:
    """As an earlier release left them: their plain digests were emptied."""
    await door.sign_in(ADA, X_Forwarded_For=HOME)
    await door.parley.db.batch(Statement("UPDATE known_device SET network = ''"))
    keyless = Accounts(door.parley.db, door.parley.settings)
    await guesses(door, STRANGERS_AT_ONCE + 10)
    with pytest.raises(AccountError) as error:
        await keyless.sign_in(ADA, PASSWORD, address="192.0.2.1", hit=door.parley.limits.hit)
    assert error.value.code == "too_many_attempts"


async def known_devices(door: Door) -> int:
    return len(await door.parley.db.query("SELECT id FROM known_device"))
