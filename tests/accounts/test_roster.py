"""What an administrator changes: plans, roles, and that one administrator is always left."""

import asyncio

import pytest

from chat_app.accounts.identity import AccountError
from chat_app.accounts.people import Accounts
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import new_id

PASSWORD = "correct horse battery"


async def test_a_new_plan_is_in_force_at_once(accounts: Accounts) -> None:
    token = await accounts.sign_up("ada@example.org", PASSWORD, code=await accounts.setup_code.current() or "")
    ada = await accounts.by_cookie(token)
    assert ada is not None
    key = await accounts.make_key(ada.user_id, "")
    await accounts.set_plan(ada.user_id, "pro")
    by_cookie, by_key = await accounts.by_cookie(token), await accounts.by_key(key)
    assert by_cookie is not None
    assert by_key is not None
    assert by_cookie.plan_id == by_key.plan_id == "pro"


async def test_a_plan_that_is_not_there_is_refused(accounts: Accounts, db: Database) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    await db.batch(Statement("UPDATE plan SET archived_at = 1 WHERE id = 'pro'"))
    for plan in ("gold", "pro", ""):
        with pytest.raises(AccountError) as error:
            await accounts.set_plan(ada.user_id, plan)
        assert error.value.code == "plan_unknown"
    with pytest.raises(AccountError) as error:
        await accounts.set_plan(new_id(), "free")
    assert error.value.code == "not_found"


async def test_roles(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    bob = await accounts.create("bob@example.org", PASSWORD)
    await accounts.set_role(bob.user_id, "staff")
    seen = await accounts.by_email("bob@example.org")
    assert seen is not None
    assert seen.is_staff and not seen.is_admin
    with pytest.raises(AccountError, match="only administrator"):
        await accounts.set_role(ada.user_id, "user")
    with pytest.raises(AccountError, match="only administrator"):
        await accounts.disable(ada.user_id)
    with pytest.raises(AccountError, match="A role is one of"):
        await accounts.set_role(bob.user_id, "root")
    await accounts.set_role(bob.user_id, "admin")
    await accounts.set_role(ada.user_id, "user")
    assert await accounts.is_empty() is False


async def test_two_administrators_cannot_both_step_down_at_once(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    bob = await accounts.create("bob@example.org", PASSWORD, role="admin")
    steps = (accounts.set_role(ada.user_id, "user"), accounts.disable(bob.user_id))
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(AccountError) == 1


async def test_people_are_found_by_name_and_address(accounts: Accounts) -> None:
    await accounts.create("ada@example.org", PASSWORD, "Ada Lovelace")
    await accounts.create("grace@navy.mil", PASSWORD, "Grace_Hopper 100%")
    emails = [p.identity.email for p in await accounts.people()]
    assert emails == ["ada@example.org", "grace@navy.mil"]
    for search, found in (
        ("LOVE", 1),
        ("navy", 1),
        ("e", 2),
        ("_", 1),
        ("100%", 1),
        ("%%", 0),
        ("\\", 0),
        ("\x00ada", 1),
    ):
        assert len(await accounts.people(search)) == found, search
    assert len(await accounts.people(limit=1)) == 1
