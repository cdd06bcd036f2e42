"""Passwords: what may be chosen, how it is hashed, and that nothing tells an unknown account from a wrong password."""

import asyncio
import time

import pytest
from argon2 import PasswordHasher, extract_parameters

from chat_app.accounts import passwords
from chat_app.accounts.identity import AccountError
from chat_app.accounts.passwords import Passwords


@pytest.mark.parametrize(
    ("password", "words"),
    [("", "at least 8"), ("1234567", "at least 8"), (" " * 9, "blanks"), ("x" * 513, "at most 512")],
)
async def test_a_password_that_may_not_be_chosen_is_refused_in_plain_words(password: str, words: str) -> None:
    with pytest.raises(AccountError, match=words) as error:
        await Passwords().hashed(password)
    assert error.value.code == "bad_password"


@pytest.mark.parametrize("password", ["12345678", "пароль на русском", "🦜" * 8, "with\x00nul and \ud800"])
async def test_a_hash_is_argon2id_and_verifies_only_its_password(password: str) -> None:
    hash_ = await Passwords().hashed(password)
    assert hash_.startswith("$argon2id$")
    assert await Passwords().verified(password, hash_)
    assert not await Passwords().verified(password + "x", hash_)


async def test_two_unicode_forms_of_one_password_are_one_password() -> None:
    assert await Passwords().verified("cafe\u0301 noir", await Passwords().hashed("caf\u00e9 noir"))


async def test_a_damaged_hash_verifies_nothing() -> None:
    assert not await Passwords().verified("12345678", "not a hash")


async def test_no_account_and_a_wrong_password_cost_the_same_work() -> None:
    hash_ = await Passwords().hashed("right password")
    assert extract_parameters(passwords._NOBODY) == extract_parameters(hash_)
    assert not await Passwords().verified("right password", None)


async def test_an_overlong_password_is_compared_like_any_other() -> None:
    started = time.perf_counter()
    assert not await Passwords().verified("x" * 5_000_000, None)
    assert time.perf_counter() - started > 0.01


async def test_hashing_leaves_the_event_loop_free() -> None:
    hashing = asyncio.create_task(Passwords().hashed("a good password"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    assert passwords.outdated(PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash("x"))
    assert not passwords.outdated(await Passwords().hashed("a good password"))
