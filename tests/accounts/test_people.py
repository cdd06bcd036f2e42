"""Making accounts, signing in and out, on both databases."""

import asyncio
from dataclasses import fields
from typing import Any

import pytest
from argon2 import PasswordHasher

from chat_app.accounts.attempts import PER_ADDRESS, PER_EMAIL, STRANGERS_AT_ONCE
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.people import Accounts
from chat_app.accounts.tokens import digest
from chat_app.data.db.base import Database, Statement
from chat_app.settings import Settings

PASSWORD = "correct horse battery"


async def fails(code: str, work: object) -> AccountError:
    with pytest.raises(AccountError) as error:
        await work  # type: ignore[misc]
    assert error.value.code == code, error.value.message
    return error.value


async def code_of(accounts: Accounts) -> str:
    """What the first account asks for; '' once there is one."""
    return await accounts.setup_code.current() or ""


async def test_the_first_account_is_the_administrators(accounts: Accounts) -> None:
    assert await accounts.is_empty()
    ada = await accounts.create("Ada@Example.org ", PASSWORD)
    bob = await accounts.create("bob@example.org", PASSWORD, "Bob")
    assert not await accounts.is_empty()
    assert (ada.email, ada.name, ada.role, ada.plan_id) == ("ada@example.org", "ada", "admin", "free")
    assert ada.is_admin and ada.is_staff
    assert (bob.name, bob.role) == ("Bob", "user")
    assert not bob.is_staff


async def test_of_many_first_accounts_at_once_exactly_one_is_an_administrators(accounts: Accounts) -> None:
    made = await asyncio.gather(*(accounts.create(f"p{n}@example.org", PASSWORD) for n in range(6)))
    assert sorted(who.role for who in made) == ["admin"] + ["user"] * 5


async def test_of_many_first_accounts_at_once_one_is_made_when_sign_up_is_closed(
    db: Database, settings: Settings
) -> None:
    accounts = Accounts(db, settings.model_copy(update={"signup": "closed"}))
    code = await code_of(accounts)
    many = (accounts.sign_up(f"p{n}@example.org", PASSWORD, code=code) for n in range(4))
    made = await asyncio.gather(*many, return_exceptions=True)
    refused = [outcome for outcome in made if isinstance(outcome, AccountError)]
    assert [error.code for error in refused] == ["signup_closed"] * 3
    [admin] = await accounts.people()
    assert admin.identity.is_admin
    await fails("signup_closed", accounts.sign_up("late@example.org", PASSWORD))
    assert (await accounts.create("made@example.org", PASSWORD)).role == "user"


async def test_one_address_makes_one_account(accounts: Accounts) -> None:
    attempts = (accounts.create(email, PASSWORD) for email in ("a@example.org", "A@example.org", " a@EXAMPLE.org"))
    made = await asyncio.gather(*attempts, return_exceptions=True)
    assert len([who for who in made if isinstance(who, Identity)]) == 1
    assert {error.code for error in made if isinstance(error, AccountError)} == {"email_taken"}


@pytest.mark.parametrize(
    "email", ["", "ada", "@", "a@", "@b", "a b@c", "a@b@c", "a@b\x00", "a\u200b@b.c", f"{'x' * 255}@b.c"]
)
async def test_what_is_no_address_is_refused(accounts: Accounts, email: str) -> None:
    await fails("bad_email", accounts.create(email, PASSWORD))


async def test_control_characters_do_not_get_into_names(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD, "Ada\x00\x1b[31m \n Lovelace")
    assert ada.name == "Ada [31m Lovelace"
    await fails("bad_name", accounts.create("bob@example.org", PASSWORD, "x" * 101))


async def test_a_missing_default_plan_is_said(db: Database, settings: Settings) -> None:
    accounts = Accounts(db, settings.model_copy(update={"default_plan": "gold"}))
    assert "gold" in (await fails("plan_unknown", accounts.create("ada@example.org", PASSWORD))).message


async def test_signing_in_and_out(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    token = await accounts.sign_in(" ADA@example.org", PASSWORD)
    other = await accounts.sign_in("ada@example.org", PASSWORD)
    assert await accounts.by_cookie(token) == ada
    await accounts.sign_out(token)
    assert await accounts.by_cookie(token) is None
    assert await accounts.by_cookie(other) == ada


async def test_a_password_that_changes_while_it_is_checked_signs_nobody_in(accounts: Accounts, db: Database) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    verified = accounts._passwords.verified

    async def slowly(*args: Any, **options: Any) -> bool:
        right = await verified(*args, **options)
        await accounts.set_password(ada.user_id, "another password")
        return right

    accounts._passwords.verified = slowly  # type: ignore[method-assign]
    await fails("bad_credentials", accounts.sign_in("ada@example.org", PASSWORD))
    assert await db.query("SELECT id FROM browser_session") == []


async def test_signing_up_signs_in(accounts: Accounts) -> None:
    who = await accounts.by_cookie(
        await accounts.sign_up("ada@example.org", PASSWORD, "Ada", code=await code_of(accounts))
    )
    assert who is not None
    assert (who.email, who.name, who.role) == ("ada@example.org", "Ada", "admin")


async def test_neither_token_nor_password_is_stored(accounts: Accounts, db: Database) -> None:
    token = await accounts.sign_up("ada@example.org", PASSWORD, code=await code_of(accounts))
    sessions = await db.query("SELECT * FROM browser_session")
    users = await db.query("SELECT * FROM users")
    assert sessions[0]["id"] == digest(token)
    assert token not in str(list(sessions)) and PASSWORD not in str(list(users))


async def test_an_unknown_address_and_a_wrong_password_look_alike(accounts: Accounts) -> None:
    await accounts.create("ada@example.org", PASSWORD)
    wrong = await fails("bad_credentials", accounts.sign_in("ada@example.org", "not the password"))
    unknown = await fails("bad_credentials", accounts.sign_in("eve@example.org", PASSWORD))
    nonsense = await fails("bad_credentials", accounts.sign_in("no address\x00", PASSWORD))
    assert wrong.message == unknown.message == nonsense.message


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "ü" * 43, "a" * 10_000, "\x00" * 43])
async def test_a_made_up_token_is_nobody(accounts: Accounts, token: str) -> None:
    assert await accounts.by_cookie(token) is None


async def test_a_session_expires(accounts: Accounts, db: Database) -> None:
    token = await accounts.sign_up("ada@example.org", PASSWORD, code=await code_of(accounts))
    await db.batch(Statement("UPDATE browser_session SET expires_at = 1"))
    assert await accounts.by_cookie(token) is None
    await accounts.sign_in("ada@example.org", PASSWORD)
    assert len(await db.query("SELECT id FROM browser_session")) == 1


async def test_a_disabled_account_is_locked_out_at_once(accounts: Accounts) -> None:
    await accounts.create("root@example.org", PASSWORD)
    token = await accounts.sign_up("ada@example.org", PASSWORD, code=await code_of(accounts))
    ada = await accounts.by_cookie(token)
    assert ada is not None
    key = await accounts.make_key(ada.user_id, "k")
    await accounts.disable(ada.user_id)
    assert await accounts.by_cookie(token) is None
    assert await accounts.by_key(key) is None
    await fails("account_disabled", accounts.sign_in("ada@example.org", PASSWORD))
    await fails("bad_credentials", accounts.sign_in("ada@example.org", "not the password"))
    await accounts.enable(ada.user_id)
    assert await accounts.by_key(key) == ada
    assert await accounts.by_cookie(token) is None


async def test_a_changed_password_signs_out_every_other_browser(accounts: Accounts) -> None:
    here = await accounts.sign_up("ada@example.org", PASSWORD, code=await code_of(accounts))
    there = await accounts.sign_in("ada@example.org", PASSWORD)
    ada = await accounts.by_cookie(here)
    assert ada is not None
    await fails("bad_credentials", accounts.change_password(ada.user_id, "not the password", "another password"))
    await fails("bad_password", accounts.change_password(ada.user_id, PASSWORD, "short"))
    await accounts.change_password(ada.user_id, PASSWORD, "another password", keep=here)
    assert await accounts.by_cookie(here) == ada
    assert await accounts.by_cookie(there) is None
    await fails("bad_credentials", accounts.sign_in("ada@example.org", PASSWORD))
    await accounts.sign_in("ada@example.org", "another password")


async def test_a_hash_of_old_parameters_is_made_anew_at_sign_in(accounts: Accounts, db: Database) -> None:
    await accounts.create("ada@example.org", PASSWORD)
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    await db.batch(Statement("UPDATE users SET password_hash = $1", (old,)))
    token = await accounts.sign_in("ada@example.org", PASSWORD)
    [row] = await db.query("SELECT password_hash FROM users")
    assert row["password_hash"] != old
    assert "t=3" in row["password_hash"]
    assert await accounts.by_cookie(token) is not None
    await accounts.sign_in("ada@example.org", PASSWORD)


class Counter:
    """A stand-in for the limits that lets a number of events under each key pass."""

    def __init__(self) -> None:
        self.hits: dict[str, int] = {}

    async def hit(self, key: str, per_minute: int, burst: int | None = None) -> int:
        self.hits[key] = self.hits.get(key, 0) + 1
        return 0 if self.hits[key] <= (burst or per_minute) else 2_500


async def test_guessing_a_password_is_bounded_per_account_and_address(accounts: Accounts) -> None:
    await accounts.create("ada@example.org", PASSWORD)
    counter = Counter()
    for n in range(PER_EMAIL):
        guess = accounts.sign_in("ada@example.org", f"guess number {n}", address="10.0.0.1", hit=counter.hit)
        await fails("bad_credentials", guess)
    late = accounts.sign_in("ADA@example.org", PASSWORD, address="10.0.0.1", hit=counter.hit)
    error = await fails("too_many_attempts", late)
    assert error.retry_after == 3
    assert "3 seconds" in error.message
    assert "ada" not in str(counter.hits)
    await accounts.sign_in("ada@example.org", PASSWORD, address="10.0.0.2", hit=counter.hit)


async def test_guessing_from_many_addresses_is_bounded_per_account(accounts: Accounts) -> None:
    await accounts.create("ada@example.org", PASSWORD)
    counter = Counter()
    counter.hits[f"sign-in:to:{digest('ada@example.org')}"] = STRANGERS_AT_ONCE - 1
    guess = accounts.sign_in("ada@example.org", "a guess", address="10.0.0.1", hit=counter.hit)
    await fails("bad_credentials", guess)
    late = accounts.sign_in("ada@example.org", PASSWORD, address="10.0.0.2", hit=counter.hit)
    await fails("too_many_attempts", late)
    other = accounts.sign_in("eve@example.org", "a guess", address="10.0.0.2", hit=counter.hit)
    await fails("bad_credentials", other)


async def test_guessing_the_current_password_is_bounded(accounts: Accounts) -> None:
    ada, counter = await accounts.create("ada@example.org", PASSWORD), Counter()
    counter.hits[f"password:of:{ada.user_id}"] = PER_EMAIL - 1
    guess = accounts.change_password(ada.user_id, "a guess", "another password", hit=counter.hit)
    await fails("bad_credentials", guess)
    late = accounts.change_password(ada.user_id, PASSWORD, "another password", hit=counter.hit)
    await fails("too_many_attempts", late)


async def test_changing_passwords_takes_the_limit_and_the_turn_of_its_address(accounts: Accounts) -> None:
    """However many accounts somebody has: they share one lane, and no place that is kept for known devices."""
    ada, counter = await accounts.create("ada@example.org", PASSWORD), Counter()
    run, turns = accounts._passwords._queue.run, []

    async def noted(lane: str, work: Any, *, known: bool = False) -> Any:
        turns.append((lane, known))
        return await run(lane, work, known=known)

    accounts._passwords._queue.run = noted  # type: ignore[method-assign, assignment]
    counter.hits["sign-in:from:10.0.0.1"] = PER_ADDRESS - 1
    change = accounts.change_password
    await change(ada.user_id, PASSWORD, "another password", hit=counter.hit, address="10.0.0.1")
    assert turns == [("10.0.0.1", False)] * 2
    late = change(ada.user_id, "another password", PASSWORD, hit=counter.hit, address="10.0.0.1")
    await fails("too_many_attempts", late)
    await change(ada.user_id, "another password", PASSWORD, hit=counter.hit, address="10.0.0.2")


async def test_guessing_is_bounded_per_address(accounts: Accounts) -> None:
    counter = Counter()
    counter.hits["sign-in:from:10.0.0.1"] = PER_ADDRESS
    await fails("too_many_attempts", accounts.sign_in("a@b.c", PASSWORD, address="10.0.0.1", hit=counter.hit))
    await fails("too_many_attempts", accounts.sign_up("a@b.c", PASSWORD, address="10.0.0.1", hit=counter.hit))
    await accounts.sign_up("a@b.c", PASSWORD, address="10.0.0.2", hit=counter.hit, code=await code_of(accounts))


def test_an_identity_holds_nothing_secret() -> None:
    plain = {"user_id", "tenant_id", "email", "name", "role", "plan_id", "has_second_factor", "has_password"}
    assert {f.name for f in fields(Identity)} == plain


async def test_sessions_that_have_ended(accounts: Accounts, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await accounts.create("root@example.org", PASSWORD)
    ada, bob = [await accounts.create(f"{name}@example.org", PASSWORD) for name in ("ada", "bob")]
    tokens = [await accounts.sign_in(email, PASSWORD) for email in ("ada@example.org",) * 3 + ("bob@example.org",)]
    stays, leaves, expires, disabled = map(digest, tokens)
    everyone = {stays, leaves, expires, disabled}
    assert await accounts.ended(set()) == await accounts.ended(everyone) == set()
    await accounts.sign_out(tokens[1])
    await db.batch(Statement("UPDATE browser_session SET expires_at = 1 WHERE id = $1", (expires,)))
    await accounts.disable(bob.user_id)
    monkeypatch.setattr("chat_app.accounts.browsers._AT_ONCE", 2)
    assert await accounts.ended({*everyone, "unknown"}) == {leaves, expires, disabled, "unknown"}
    await accounts.set_password(ada.user_id, "a whole new secret")
    assert await accounts.ended({stays}) == {stays}


async def test_who_is_disabled_while_their_password_is_looked_at_is_not_let_in(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.create("root@example.org", PASSWORD)
    ada = await accounts.create("ada@example.org", PASSWORD)
    verified = accounts._passwords.verified

    async def slow(*args: Any, **rest: Any) -> bool:
        right = await verified(*args, **rest)
        await accounts.disable(ada.user_id)
        return right

    monkeypatch.setattr(accounts._passwords, "verified", slow)
    with pytest.raises(AccountError):
        await accounts.sign_in("ada@example.org", PASSWORD)
    await accounts.enable(ada.user_id)
    assert await accounts.browsers(ada.user_id) == []


async def test_of_two_changes_of_a_password_at_once_the_first_counts(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    hashed = accounts._passwords.hashed

    async def slow(new: str, *args: Any, **rest: Any) -> str:
        made = await hashed(new, *args, **rest)
        monkeypatch.setattr(accounts._passwords, "hashed", hashed)
        await accounts.change_password(ada.user_id, PASSWORD, "tall giraffe soup 91")
        return made

    monkeypatch.setattr(accounts._passwords, "hashed", slow)
    with pytest.raises(AccountError):
        await accounts.change_password(ada.user_id, PASSWORD, "a thief chose this 7")
    await accounts.sign_in("ada@example.org", "tall giraffe soup 91")


async def test_a_thousand_people_are_found_by_their_ids(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    assert await accounts.emails([ada.user_id, *(f"nobody-{n}" for n in range(1_500))]) == {ada.user_id: ada.email}


async def test_a_session_of_a_release_that_notes_no_use_counts_from_its_beginning(
    accounts: Accounts, db: Database
) -> None:
    await accounts.create("ada@example.org", PASSWORD)
    token = await accounts.sign_in("ada@example.org", PASSWORD)
    await db.batch(Statement("UPDATE browser_session SET seen_at = 0"))
    assert await accounts.by_cookie(token) is not None
    assert await accounts.forget_expired() == 0
