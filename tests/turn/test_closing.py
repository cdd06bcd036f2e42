"""Closing an account: what it takes, that nothing of the person is left but ids, and that what runs stops."""

import asyncio
import re
from typing import Any

import pyotp
import pytest

from chat_app.accounts.identity import AccountError, Identity, SecondFactorNeeded
from chat_app.accounts.self_service import closing_refusal
from chat_app.data.db.base import Statement, Unmet
from chat_app.sessions.generations import NotFound
from chat_app.sessions.removal import SETTLED_MS
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import PASSWORD, answer, expected, person, script, so_far

SECRET = "a private matter"


@pytest.fixture
async def ada(parley: Parley) -> Identity:
    await person(parley, "root@example.org")
    return await person(parley)


async def refused(work: Any) -> str:
    with pytest.raises(AccountError) as error:
        await work
    return error.value.code


async def rows(parley: Parley, table: str) -> str:
    return "".join(str(dict(row)) for row in await parley.db.query(f"SELECT * FROM {table}"))


async def test_it_takes_the_password(parley: Parley, ada: Identity) -> None:
    assert await refused(parley.closing.close(ada.user_id, "not the password")) == "bad_credentials"
    await parley.accounts.sign_in(ada.email, PASSWORD)


async def test_nothing_of_the_person_is_left_but_ids(parley: Parley, ada: Identity) -> None:
    session = await parley.accounts.sign_in(ada.email, PASSWORD, device="d" * 43, address="192.0.2.1")
    key = await parley.accounts.make_key(ada.user_id, "Ada's laptop")
    question = script(tokens=5)
    started = await parley.turns.say(ada, question)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    before = await rows(parley, "ledger")
    assert ada.user_id in before

    await parley.closing.close(ada.user_id, PASSWORD)
    assert await parley.accounts.by_cookie(session) is None
    assert await parley.accounts.by_key(key) is None
    assert await refused(parley.accounts.sign_in(ada.email, PASSWORD)) == "bad_credentials"
    assert await refused(parley.accounts.enable(ada.user_id)) == "not_found"
    with pytest.raises(NotFound):
        await parley.threads.open(ada, started.thread_id)
    assert [each.identity.email for each in await parley.accounts.people()] == ["root@example.org"]
    kept = "".join([await rows(parley, table) for table in ("users", "api_key", "known_device", "browser_session")])
    assert ada.user_id in kept
    assert "ada" not in re.sub(r"[0-9a-f]{16,}", "", kept.lower()), "beside digests and ids, which may spell anything"
    assert await rows(parley, "ledger") == before
    assert not (await parley.db.query("SELECT id FROM known_device WHERE user_id = $1", ada.user_id))


async def test_nothing_of_a_second_factor_is_left_and_no_name_comes_back(parley: Parley, ada: Identity) -> None:
    setup = await parley.accounts.set_up_second_factor(ada, PASSWORD)
    codes = await parley.accounts.confirm_second_factor(ada.user_id, pyotp.TOTP(setup.secret).now())
    with pytest.raises(SecondFactorNeeded):
        await parley.accounts.sign_in(ada.email, PASSWORD)
    assert await parley.db.query("SELECT 1 FROM half_sign_in")
    await parley.closing.close(ada.user_id, PASSWORD, codes[0])
    for table in ("half_sign_in", "recovery_code"):
        assert not await parley.db.query(f"SELECT 1 FROM {table}"), table
    assert await refused(parley.accounts.rename(ada.user_id, "Ada again")) == "not_found"


async def test_the_second_of_two_closings_is_told_what_is_so(parley: Parley, ada: Identity) -> None:
    ways = [await parley.accounts.closing(ada.user_id, PASSWORD, "") for _ in range(2)]
    await parley.db.batch(*ways[0])
    with pytest.raises(Unmet) as unmet:
        await parley.db.batch(*ways[1])
    assert closing_refusal(unmet.value).code == "not_found"


async def test_the_address_is_free_again_for_another_account(parley: Parley, ada: Identity) -> None:
    await parley.closing.close(ada.user_id, PASSWORD)
    new = await person(parley, ada.email)
    assert new.user_id != ada.user_id
    assert await parley.threads.recent(new) == []


async def test_running_answers_are_stopped_and_settled(parley: Parley, ada: Identity) -> None:
    slow = script(tokens=5_000, rate=40)
    chat = await parley.turns.say(ada, slow)
    call = await parley.turns.call(ada, [Message("user", slow)], detached=True)
    for running in (chat, call):
        await so_far(parley, running.generation_id, 10)
    await parley.closing.close(ada.user_id, PASSWORD)
    ends = [await answer(parley, running.generation_id) for running in (chat, call)]
    assert [end for _, end in ends] == ["stopped", "stopped"]
    [quota] = await parley.db.query("SELECT held, used FROM quota WHERE user_id = $1", ada.user_id)
    assert quota["held"] == 0 and quota["used"] > 0


async def test_the_purge_removes_the_chats_also_one_that_began_meanwhile(parley: Parley, ada: Identity) -> None:
    await parley.closing.close(ada.user_id, PASSWORD)
    late = await parley.turns.say(ada, f"Name {SECRET}.")  # It was let in before.
    await answer(parley, late.generation_id)
    assert SECRET in await rows(parley, "message")
    await parley.purge.purge_now()
    for change in ("thread SET deleted_at = deleted_at", "generation SET finished_at = finished_at"):
        await parley.db.batch(Statement(f"UPDATE {change} - {2 * SETTLED_MS}"))
    await parley.purge.purge_now()
    assert await rows(parley, "message") + await rows(parley, "thread") + await rows(parley, "generation") == ""
    assert ada.user_id in await rows(parley, "ledger")


async def test_the_last_administrator_stays(parley: Parley, ada: Identity) -> None:
    root = await parley.accounts.by_email("root@example.org")
    assert root is not None
    assert await refused(parley.closing.close(root.user_id, PASSWORD)) == "last_admin"
    await parley.accounts.sign_in(root.email, PASSWORD)
    await parley.accounts.set_role(ada.user_id, "admin")
    ends = await asyncio.gather(
        *(parley.closing.close(each.user_id, PASSWORD) for each in (root, ada)), return_exceptions=True
    )
    assert sorted(str(getattr(end, "code", end)) for end in ends) == ["None", "last_admin"]
    assert not await parley.accounts.is_empty()


async def test_a_plan_of_closed_accounts_alone_has_no_members(parley: Parley, ada: Identity) -> None:
    await parley.accounts.set_plan(ada.user_id, "pro")
    assert await parley.plans.members("pro") == 1
    await parley.closing.close(ada.user_id, PASSWORD)
    assert await parley.plans.members("pro") == 0
    await parley.plans.archive("pro")
