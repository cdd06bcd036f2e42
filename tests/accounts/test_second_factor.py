"""The second factor: setting it up, signing in with it, each code once, and what the database alone is worth."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chat_app.accounts.attempts import CODES_AT_ONCE
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.people import Accounts
from chat_app.accounts.second_factor import KEY_FILE, RECOVERY_CODES
from chat_app.data.db import open_database
from chat_app.data.db.base import Database, Statement
from chat_app.settings import Settings
from tests.accounts.factors import PASSWORD, App, Clock, half, with_factor
from tests.accounts.test_people import Counter, fails


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("chat_app.accounts.second_factor.now_ms", made.ms)
    return made


@pytest.fixture
async def replica(db: Database, settings: Settings) -> AsyncIterator[Accounts]:
    """The accounts of another process on the same stores."""
    database = open_database(settings)
    await database.start()
    yield Accounts(database, settings)
    await database.close()


@pytest.fixture
async def ada(accounts: Accounts) -> Identity:
    await accounts.create("root@example.org", PASSWORD)
    return await accounts.create("ada@example.org", PASSWORD)


async def test_set_up_and_signing_in_in_two_steps(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    assert len(set(codes)) == RECOVERY_CODES
    proof = await half(accounts)
    assert await accounts.by_cookie(proof) is None
    await fails("bad_code", accounts.enter_code(proof, "000000" if app.code() != "000000" else "111111"))
    who = await accounts.by_cookie(await accounts.enter_code(proof, app.code()))
    assert who is not None and who.user_id == ada.user_id and who.has_second_factor
    await fails("bad_credentials", accounts.sign_in("ada@example.org", "not the password"))


async def test_sessions_from_before_end_but_the_one_it_is_set_up_in(
    accounts: Accounts, ada: Identity, clock: Clock
) -> None:
    here, elsewhere = [await accounts.sign_in("ada@example.org", PASSWORD) for _ in range(2)]
    setup = await accounts.set_up_second_factor(ada, PASSWORD)
    await accounts.confirm_second_factor(ada.user_id, App(setup.secret, clock).code(), keep=here)
    assert await accounts.by_cookie(here) is not None
    assert await accounts.by_cookie(elsewhere) is None


async def test_nothing_asks_for_a_code_until_one_was_given(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    first = await accounts.set_up_second_factor(ada, PASSWORD)
    await accounts.sign_in("ada@example.org", PASSWORD)
    await fails("bad_code", accounts.confirm_second_factor(ada.user_id, "000000"))
    again = await accounts.set_up_second_factor(ada, PASSWORD)  # The page was left: another secret.
    assert again.secret != first.secret
    await fails("bad_code", accounts.confirm_second_factor(ada.user_id, App(first.secret, clock).code()))
    await accounts.confirm_second_factor(ada.user_id, App(again.secret, clock).code())
    await half(accounts)


async def test_setting_up_takes_the_password_and_replaces_nothing(
    accounts: Accounts, ada: Identity, clock: Clock
) -> None:
    await fails("bad_credentials", accounts.set_up_second_factor(ada, "not the password"))
    app, _ = await with_factor(accounts, ada, clock)
    await fails("factor_on", accounts.set_up_second_factor(ada, PASSWORD))
    await fails("factor_on", accounts.confirm_second_factor(ada.user_id, app.code()))
    await accounts.enter_code(await half(accounts), app.code())


async def test_a_code_is_good_once_also_the_one_that_set_it_up(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    proof = await half(accounts)
    await fails("bad_code", accounts.enter_code(proof, app.code(late=1)))  # With which it was confirmed.
    await accounts.enter_code(proof, app.code())
    proof = await half(accounts)
    await fails("bad_code", accounts.enter_code(proof, app.code()))
    clock.step += 1
    await fails("bad_code", accounts.enter_code(proof, app.code(late=1)))
    await accounts.enter_code(proof, app.code())


@pytest.mark.parametrize(("late", "taken"), [(2, False), (1, True), (0, True), (-1, True), (-2, False)])
async def test_clocks_may_differ_by_a_step(
    accounts: Accounts, ada: Identity, clock: Clock, late: int, taken: bool
) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    clock.step += 10
    proof = await half(accounts)
    if taken:
        assert await accounts.by_cookie(await accounts.enter_code(proof, app.code(late)))
    else:
        await fails("bad_code", accounts.enter_code(proof, app.code(late)))


async def test_a_code_of_an_earlier_step_is_none_after_a_later_one(
    accounts: Accounts, ada: Identity, clock: Clock
) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    clock.step += 10
    await accounts.enter_code(await half(accounts), app.code(late=-1))
    await fails("bad_code", accounts.enter_code(await half(accounts), app.code()))


async def test_of_two_sign_ins_with_one_code_on_two_replicas_one_comes_in(
    accounts: Accounts, replica: Accounts, ada: Identity, clock: Clock
) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    for code in (app.code(), codes[0]):
        proofs = [await half(each) for each in (accounts, replica, accounts, replica)]
        entering = (each.enter_code(proof, code) for each, proof in zip([accounts, replica] * 2, proofs, strict=True))
        ends = await asyncio.gather(*entering, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, AccountError)]
        assert [error.code for error in refused] == ["bad_code"] * 3
        [token] = [end for end in ends if isinstance(end, str)]
        assert await replica.by_cookie(token) is not None


async def test_a_proof_is_good_once(accounts: Accounts, replica: Accounts, ada: Identity, clock: Clock) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    proof = await half(accounts)
    ends = await asyncio.gather(
        accounts.enter_code(proof, app.code()),
        replica.enter_code(proof, codes[0]),
        return_exceptions=True,
    )
    assert sorted(type(end).__name__ for end in ends) == ["AccountError", "str"]
    await fails("sign_in_again", accounts.enter_code(proof, codes[1]))
    assert await accounts.second_factor.recovery_codes_left(ada.user_id) >= RECOVERY_CODES - 1


async def test_a_proof_ends_with_its_time_and_with_the_password(
    accounts: Accounts, ada: Identity, clock: Clock, db: Database
) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    proof = await half(accounts)
    await accounts.set_password(ada.user_id, "another password")
    await fails("sign_in_again", accounts.enter_code(proof, app.code()))
    late = await half(accounts, password="another password")
    await db.batch(Statement("UPDATE half_sign_in SET expires_at = 1"))
    await fails("sign_in_again", accounts.enter_code(late, "no code"))
    await fails("sign_in_again", accounts.enter_code(late, app.code()))
    await accounts.forget_expired()
    assert not await db.query("SELECT id FROM half_sign_in")
    disabled = await half(accounts, password="another password")
    await accounts.disable(ada.user_id)
    await fails("account_disabled", accounts.enter_code(disabled, app.code()))


@pytest.mark.parametrize("proof", ["", "x" * 43, "\x00"])
async def test_a_made_up_proof_is_none(accounts: Accounts, ada: Identity, clock: Clock, proof: str) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    await fails("sign_in_again", accounts.enter_code(proof, app.code()))


async def test_a_session_is_no_proof(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    session = await accounts.sign_in("ada@example.org", PASSWORD)
    app, _ = await with_factor(accounts, ada, clock)
    await fails("sign_in_again", accounts.enter_code(session, app.code()))


async def test_recovery_codes_are_good_once_each_however_they_are_typed(
    accounts: Accounts, ada: Identity, clock: Clock
) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    await accounts.enter_code(await half(accounts), f" {codes[0].lower().replace('-', ' ')} ")
    proof = await half(accounts)
    await fails("bad_code", accounts.enter_code(proof, codes[0]))
    await accounts.enter_code(proof, codes[1])
    assert await accounts.second_factor.recovery_codes_left(ada.user_id) == RECOVERY_CODES - 2
    new = await accounts.renew_recovery_codes(ada.user_id, PASSWORD, app.code())
    assert set(new).isdisjoint(codes)
    proof = await half(accounts)
    await fails("bad_code", accounts.enter_code(proof, codes[2]))
    await accounts.enter_code(proof, new[0])


async def test_a_recovery_code_is_of_one_person(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    _, codes = await with_factor(accounts, ada, clock)
    eve = await accounts.create("eve@example.org", PASSWORD)
    await with_factor(accounts, eve, clock)
    await fails("bad_code", accounts.enter_code(await half(accounts, "eve@example.org"), codes[0]))


async def test_turning_off_takes_password_and_code(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    await fails("factor_off", accounts.turn_off_second_factor(ada.user_id, PASSWORD, "123456"))
    await fails("factor_off", accounts.renew_recovery_codes(ada.user_id, PASSWORD, "123456"))
    app, codes = await with_factor(accounts, ada, clock)
    await fails("bad_credentials", accounts.turn_off_second_factor(ada.user_id, "not the password", app.code()))
    await fails("bad_code", accounts.turn_off_second_factor(ada.user_id, PASSWORD, ""))
    await accounts.turn_off_second_factor(ada.user_id, PASSWORD, app.code())
    await accounts.sign_in("ada@example.org", PASSWORD)
    assert await accounts.second_factor.recovery_codes_left(ada.user_id) == 0
    await with_factor(accounts, ada, clock)
    await fails("bad_code", accounts.enter_code(await half(accounts), codes[0]))


async def test_a_lost_phone(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    await fails("factor_off", accounts.remove_second_factor(ada.user_id))
    app, _ = await with_factor(accounts, ada, clock)
    waiting = await half(accounts)
    await accounts.remove_second_factor(ada.user_id)
    await accounts.sign_in("ada@example.org", PASSWORD)
    await fails("sign_in_again", accounts.enter_code(waiting, app.code()))


async def test_who_set_one_up_meanwhile_is_not_let_in_without_it(
    accounts: Accounts, ada: Identity, clock: Clock, db: Database
) -> None:
    [row] = await db.query("SELECT password_hash FROM users WHERE id = $1", ada.user_id)
    await with_factor(accounts, ada, clock)
    opening = accounts._open_session(ada.user_id, PASSWORD, row["password_hash"], "", "", "")
    await fails("bad_credentials", opening)
    assert not await db.query("SELECT id FROM browser_session")


async def test_guessing_codes_is_bounded_and_keeps_nobody_out_who_was_here_before(
    accounts: Accounts, ada: Identity, clock: Clock
) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    counter, device = Counter(), "d" * 43
    await accounts.enter_code(await half(accounts), app.code(), device=device)
    clock.step += 1
    proof = await half(accounts)
    for at in range(CODES_AT_ONCE):
        guess = accounts.enter_code(proof, "no code", address=f"10.0.0.{at}", hit=counter.hit)
        await fails("bad_code", guess)
    late = accounts.enter_code(proof, app.code(), address="10.0.1.1", hit=counter.hit)
    assert (await fails("too_many_attempts", late)).retry_after == 3
    await accounts.enter_code(proof, app.code(), device=device, hit=counter.hit)


async def test_guessing_codes_with_a_session_is_bounded(accounts: Accounts, ada: Identity, clock: Clock) -> None:
    app, _ = await with_factor(accounts, ada, clock)
    counter = Counter()
    counter.hits[f"code:of:{ada.user_id}:by:signed-in"] = CODES_AT_ONCE
    off = accounts.turn_off_second_factor(ada.user_id, PASSWORD, app.code(), hit=counter.hit)
    await fails("too_many_attempts", off)
    await fails("too_many_attempts", accounts.confirm_second_factor(ada.user_id, app.code(), hit=counter.hit))
    await accounts.enter_code(await half(accounts), app.code(), hit=counter.hit)


async def test_the_database_holds_neither_secret_nor_codes(
    accounts: Accounts, ada: Identity, clock: Clock, db: Database, settings: Settings
) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    proof = await half(accounts)
    rows = [
        str(dict(row))
        for table in ("users", "recovery_code", "half_sign_in")
        for row in await db.query(f"SELECT * FROM {table}")
    ]
    kept = "".join(rows)
    assert ada.user_id in kept
    assert not any(secret in kept for secret in (app.secret, proof, *codes, *(code.replace("-", "") for code in codes)))
    key = (settings.home / KEY_FILE).read_bytes()
    assert key.hex() not in kept and (settings.home / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def test_another_key_is_said_and_recovery_codes_still_serve(
    accounts: Accounts, ada: Identity, clock: Clock, db: Database, settings: Settings
) -> None:
    app, codes = await with_factor(accounts, ada, clock)
    (settings.home / KEY_FILE).unlink()
    restarted = Accounts(db, settings)
    proof = await half(restarted)
    await fails("factor_unreadable", restarted.enter_code(proof, app.code()))
    await restarted.enter_code(proof, codes[0])


@pytest.mark.parametrize(
    ("whose", "roles"), [("nobody", set()), ("staff", {"staff", "admin"}), ("everyone", {"user", "staff", "admin"})]
)
async def test_whom_the_settings_want_to_have_one(
    db: Database, settings: Settings, clock: Clock, whose: str, roles: set[str]
) -> None:
    accounts = Accounts(db, settings.model_copy(update={"require_second_factor": whose}))
    people = [await accounts.create(f"{role}@example.org", PASSWORD, role=role) for role in ("admin", "staff", "user")]
    assert {who.role for who in people if accounts.must_set_up(who)} == roles
    for who in people:
        await with_factor(accounts, who, clock)
        now = await accounts.by_email(who.email)
        assert now is not None and not accounts.must_set_up(now)
