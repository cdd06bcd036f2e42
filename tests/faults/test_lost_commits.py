"""PostgreSQL is lost at the hold or at the settlement: nobody is told anything wrong, nothing is done twice."""

import asyncio

import asyncpg
import pytest

from chat_app.billing.ledger import period_of
from chat_app.data.ids import now_ms
from chat_app.turn import TurnError, hold
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.faults.conftest import Proxied
from tests.parley import answer, expected, person, prompt_tokens, script


async def ledger(parley: Parley, generation_id: str) -> list[tuple[str, int]]:
    rows = await parley.db.query(
        "SELECT kind, tokens FROM ledger WHERE generation_id = $1 ORDER BY kind", generation_id
    )
    return [(row["kind"], row["tokens"]) for row in rows]


async def charged_once(parley: Parley, generation_id: str, question: str, words: int) -> None:
    """One hold, one settlement of just what was delivered."""
    (held, _), (settled, tokens) = await ledger(parley, generation_id)
    assert (held, settled) == ("hold", "settle")
    assert tokens == await prompt_tokens(parley, question) + words


async def test_a_hold_whose_acknowledgement_is_lost_goes_on_under_one_hold(fleet: Proxied) -> None:
    ada = await person(fleet.parley)
    lost = fleet.database.drop_next_answer(b"COMMIT")
    started = await fleet.parley.turns.say(ada, question := script(tokens=20, rate=0, seed=1))
    assert lost.happened.is_set()
    assert await answer(fleet.parley, started.generation_id) == (expected(question), "done")
    await charged_once(fleet.parley, started.generation_id, question, 20)
    assert len(await fleet.parley.db.query("SELECT id FROM generation")) == 1


async def test_a_programs_hold_whose_acknowledgement_is_lost_goes_on_under_one_hold(fleet: Proxied) -> None:
    ada = await person(fleet.parley)
    question = script(tokens=20, rate=0, seed=1)
    await answer(fleet.parley, (await fleet.parley.turns.call(ada, [Message("user", question)])).generation_id)
    lost = fleet.database.drop_next_answer(b"\x03api")  # where the turn came from, in the one statement that is all
    started = await fleet.parley.turns.call(ada, [Message("user", question)])
    assert lost.happened.is_set()
    assert await answer(fleet.parley, started.generation_id) == (expected(question), "done")
    assert [kind for kind, _ in await ledger(fleet.parley, started.generation_id)] == ["hold", "settle"]
    assert len(await fleet.parley.db.query("SELECT id FROM generation")) == 2


async def test_a_hold_whose_commit_never_arrived_is_made_again(fleet: Proxied) -> None:
    ada = await person(fleet.parley)
    stuck = fleet.database.hold_next_request(b"COMMIT")
    saying = asyncio.create_task(fleet.parley.turns.say(ada, question := script(tokens=20, rate=0, seed=2)))
    await asyncio.wait_for(stuck.happened.wait(), 10)
    fleet.database.reset()
    stuck.release()
    started = await saying
    assert await answer(fleet.parley, started.generation_id) == (expected(question), "done")
    await charged_once(fleet.parley, started.generation_id, question, 20)
    assert len(await fleet.parley.db.query("SELECT id FROM generation")) == 1


async def test_a_hold_that_was_not_committed_and_is_refused_then_has_not_begun(
    fleet: Proxied, postgres_url: str
) -> None:
    """Its month was used up while nobody knew what had become of it."""
    ada = await person(fleet.parley)
    await fleet.parley.plans.save("tight", "Tight", 5_000, 600, 8)
    await fleet.parley.accounts.set_plan(ada.user_id, "tight")
    ada = await fleet.parley.accounts.by_key(await fleet.parley.accounts.make_key(ada.user_id, "test"))
    assert ada is not None
    stuck = fleet.database.hold_next_request(b"COMMIT")
    saying = asyncio.create_task(fleet.parley.turns.say(ada, script(tokens=20, rate=0, seed=3)))
    await asyncio.wait_for(stuck.happened.wait(), 10)
    fleet.database.mode = "reset"
    stuck.release()
    other = await asyncpg.connect(postgres_url)
    await other.execute(
        "INSERT INTO quota (user_id, period, granted, used, held, granted_micro, used_micro, held_micro)"
        " VALUES ($1, $2, 0, 5000, 0, 0, 0, 0)",
        ada.user_id,
        period_of(now_ms()),
    )
    await other.close()
    fleet.database.mode = "pass"
    with pytest.raises(TurnError) as error:
        await saying
    assert (error.value.code, error.value.status) == ("quota_exceeded", 429)
    assert await fleet.parley.db.query("SELECT id FROM generation") == []
    month = await fleet.parley.ledger.allowance(ada.user_id, 5_000)
    assert (month.used, month.held) == (5_000, 0)


async def test_an_answer_comes_even_if_it_could_not_be_said_that_it_was_begun(
    fleet: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "PATIENCE_S", 0.5)
    ada = await person(fleet.parley)
    lost = fleet.database.drop_next_answer(b"COMMIT")
    saying = asyncio.create_task(fleet.parley.turns.say(ada, question := script(tokens=20, rate=0, seed=4)))
    await asyncio.wait_for(lost.happened.wait(), 10)
    fleet.database.mode = "reset"
    with pytest.raises(TurnError) as error:
        await saying
    assert (error.value.code, error.value.status) == ("storage_unknown", 503)
    fleet.database.mode = "pass"
    [row] = await fleet.parley.db.query("SELECT id FROM generation")
    async with asyncio.timeout(20):
        assert await answer(fleet.parley, row["id"]) == (expected(question), "done")
    await charged_once(fleet.parley, row["id"], question, 20)


async def test_a_database_away_at_the_settlement_costs_no_second_answer(fleet: Proxied) -> None:
    ada = await person(fleet.parley)
    settling = fleet.database.hold_next_request(b"UPDATE generation SET status")
    started = await fleet.parley.turns.say(ada, question := script(tokens=30, rate=0, seed=5))
    await asyncio.wait_for(settling.happened.wait(), 10)
    fleet.database.mode = "reset"
    settling.release()
    await asyncio.sleep(1.5)
    fleet.database.mode = "pass"
    assert await answer(fleet.parley, started.generation_id) == (expected(question), "done")
    assert fleet.engine.asked == 1
    await charged_once(fleet.parley, started.generation_id, question, 30)


async def test_a_settlement_whose_acknowledgement_is_lost_is_made_once(fleet: Proxied) -> None:
    ada = await person(fleet.parley)
    settling = fleet.database.hold_next_request(b"UPDATE generation SET status")
    started = await fleet.parley.turns.say(ada, question := script(tokens=30, rate=0, seed=6))
    await asyncio.wait_for(settling.happened.wait(), 10)
    lost = fleet.database.drop_next_answer(b'"finish":"')  # its receipt
    settling.release()
    assert await answer(fleet.parley, started.generation_id) == (expected(question), "done")
    assert lost.happened.is_set()
    assert fleet.engine.asked == 1
    await charged_once(fleet.parley, started.generation_id, question, 30)
    month = await fleet.parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (await prompt_tokens(fleet.parley, question) + 30, 0)
