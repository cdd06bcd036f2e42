"""Passwords: what may be chosen, how it is hashed, and that nothing tells an unknown account from a wrong password."""

import asyncio
import time

import pytest
from argon2 import PasswordHasher, extract_parameters
from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from chat_app.accounts import passwords, strength
from chat_app.accounts.identity import NO_PASSWORD, AccountError
from chat_app.accounts.passwords import BETTER, EASY, Passwords


@pytest.mark.parametrize(
    ("password", "words"),
    [("", "at least 12"), ("elevenchars", "at least 12"), (" " * 13, "blanks"), ("x" * 513, "at most 512")],
)
async def test_a_password_that_may_not_be_chosen_is_refused_in_plain_words(password: str, words: str) -> None:
    with pytest.raises(AccountError, match=words) as error:
        await Passwords().hashed(password)
    assert error.value.code == "bad_password"


@pytest.mark.parametrize(
    "password", ["staple-prune-7", "пароль на русском", "🦜🐢🦔🐙🐞🦉🦂🐳🦩🐿🦥🐝", "with\x00nul and \ud800"]
)
async def test_a_hash_is_argon2id_and_verifies_only_its_password(password: str) -> None:
    hash_ = await Passwords().hashed(password)
    assert hash_.startswith("$argon2id$")
    assert await Passwords().verified(password, hash_)
    assert not await Passwords().verified(password + "x", hash_)


async def test_two_unicode_forms_of_one_password_are_one_password() -> None:
    assert await Passwords().verified("cafe\u0301 noir at noon", await Passwords().hashed("caf\u00e9 noir at noon"))


async def test_a_damaged_hash_verifies_nothing() -> None:
    assert not await Passwords().verified("staple-prune-7", "not a hash")


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


async def test_a_password_of_an_older_rule_is_hashed_again_and_no_new_one_is() -> None:
    assert await Passwords().verified("short one", await Passwords().hashed_again("short one"))
    with pytest.raises(AccountError):
        await Passwords().hashed("short one")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("password1234", "common password"),
        ("P@$$w0rd1234", "commonly used"),
        ("qwertyuiopas", "commonly used"),
        ("aaaaaaaaaaaaaaaa", "Repeats"),
        ("adalovelace12", "close to your name, your e-mail address"),
        ("ada@example.org", "close to your name, your e-mail address"),
        ("parleyparley", ""),
    ],
)
async def test_a_password_that_is_easy_to_guess_is_refused_with_why_and_what_to_do(password: str, why: str) -> None:
    with pytest.raises(AccountError) as error:
        await Passwords().hashed(password, about=("ada@example.org", "Ada Lovelace"))
    assert error.value.code == "weak_password"
    assert error.value.message.startswith(EASY) and error.value.message.endswith(BETTER) and why in error.value.message


async def test_what_is_near_to_one_person_is_not_to_another() -> None:
    assert await Passwords().hashed("adalovelace12", about=("grace@example.org", "Grace Hopper"))


async def test_several_at_once_are_each_held_against_their_own_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """zxcvbn keeps the owner's words in one variable for all, so it must have ended with one before the next."""
    inside, most = 0, 0

    def counted(given: str, **rest: object) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return zxcvbn(given, **rest)

    monkeypatch.setattr(strength, "zxcvbn", counted)
    passwords = Passwords()
    own = (passwords.hashed(f"zyx{n}wvuzyx{n}wvu", about=(f"Person{n} Zyx{n}wvu",)) for n in range(6))
    refused = await asyncio.gather(*own, return_exceptions=True)
    assert [error.code for error in refused if isinstance(error, AccountError)] == ["weak_password"] * 6
    assert most == 1


@pytest.mark.parametrize("password", ["@4({[<|1!7+$50382%69" * 25, "x" * 512, "()" * 256])
async def test_however_long_and_odd_a_password_is_little_of_it_is_looked_at(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(strength, "zxcvbn", lambda given, **rest: seen.append(given) or zxcvbn(given, **rest))
    strength.weakness(password)
    [given] = seen
    assert len(given) == strength.LOOKED_AT
    disguises = {disguise for disguises in L33T_TABLE.values() for disguise in disguises}
    assert len(disguises & set(given)) <= strength.MOST_DISGUISES


async def test_no_password_at_all_is_the_one_of_an_account_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the one whose hash stands in where there is none, should anybody find it."""
    known = "the password behind it"
    monkeypatch.setattr(passwords, "_NOBODY", passwords.HASHER.hash(known))
    for nothing in (None, NO_PASSWORD):
        assert not await Passwords().verified(known, nothing)


@pytest.mark.parametrize(
    "password",
    ["anna.mueller1", "anna.mueller.example", "anna@example.org", "AnnaMueller2026!", "Parley-Anna-26"],
)
def test_pieces_of_what_is_known_of_somebody_are_no_password(password: str) -> None:
    about = ("anna.mueller@example.org", "Anna Müller")
    assert "close to your name" in str(strength.weakness(password, about))
    assert strength.weakness("anna rides seven purple camels", about) is None
