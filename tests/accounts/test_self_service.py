"""What people change about their own account: name and address, on both databases."""

import asyncio

import pytest

from chat_app.accounts.attempts import PER_EMAIL
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.people import Accounts
from tests.accounts.test_people import PASSWORD, Counter, fails


@pytest.fixture
async def ada(accounts: Accounts) -> Identity:
    return await accounts.create("ada@example.org", PASSWORD, "Ada")


async def test_another_name(accounts: Accounts, ada: Identity) -> None:
    bob = await accounts.create("bob@example.org", PASSWORD, "Bob")
    await accounts.rename(ada.user_id, "  Ada\x00 Lovelace ")
    assert [(await accounts.by_email(who.email) or who).name for who in (ada, bob)] == ["Ada Lovelace", "Bob"]
    for nothing in ("", " \n", "x" * 101):
        await fails("bad_name", accounts.rename(ada.user_id, nothing))
    await fails("not_found", accounts.rename("nobody", "Name"))


async def test_another_address_takes_the_password_and_is_signed_in_with(accounts: Accounts, ada: Identity) -> None:
    session = await accounts.sign_in(ada.email, PASSWORD)
    await fails("bad_credentials", accounts.change_email(ada.user_id, "new@example.org", "not the password"))
    await fails("bad_email", accounts.change_email(ada.user_id, "nonsense", PASSWORD))
    await accounts.change_email(ada.user_id, " New@Example.org ", PASSWORD)
    await fails("bad_credentials", accounts.sign_in(ada.email, PASSWORD))
    who = await accounts.by_cookie(await accounts.sign_in("new@example.org", PASSWORD))
    assert who is not None and (who.user_id, who.email) == (ada.user_id, "new@example.org")
    assert await accounts.by_cookie(session) == who
    again = await accounts.create(ada.email, PASSWORD)  # The former one is free.
    assert again.user_id != ada.user_id


async def test_an_address_is_one_persons(accounts: Accounts, ada: Identity) -> None:
    bob = await accounts.create("bob@example.org", PASSWORD)
    await fails("email_taken", accounts.change_email(bob.user_id, "ADA@example.org", PASSWORD))
    await accounts.change_email(ada.user_id, ada.email, PASSWORD)  # One's own.
    ends = await asyncio.gather(
        *(accounts.change_email(who.user_id, "both@example.org", PASSWORD) for who in (ada, bob)),
        return_exceptions=True,
    )
    assert [error.code for error in ends if isinstance(error, AccountError)] == ["email_taken"]
    assert None in ends


async def test_guessing_the_password_is_bounded(accounts: Accounts, ada: Identity) -> None:
    counter = Counter()
    counter.hits[f"password:of:{ada.user_id}"] = PER_EMAIL - 1
    guess = accounts.change_email(ada.user_id, "new@example.org", "a guess", hit=counter.hit)
    await fails("bad_credentials", guess)
    for late in (
        accounts.change_email(ada.user_id, "new@example.org", PASSWORD, hit=counter.hit),
        accounts.set_up_second_factor(ada, PASSWORD, hit=counter.hit),
        accounts.turn_off_second_factor(ada.user_id, PASSWORD, "", hit=counter.hit),
        accounts.renew_recovery_codes(ada.user_id, PASSWORD, "", hit=counter.hit),
        accounts.closing(ada.user_id, PASSWORD, "", hit=counter.hit),
    ):
        await fails("too_many_attempts", late)
