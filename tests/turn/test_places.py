"""Places: how many answers of one person run at a time, from the first moment of a turn's preparation to its end."""

import asyncio

import pytest

from chat_app.accounts.identity import Identity
from chat_app.turn import TurnError
from chat_app.wiring import Parley
from tests.parley import StartParley, answer, expected, fleet_settings, person, script

SLOW = script(tokens=2_000, rate=20, seed=1)
QUICK = script(tokens=3, rate=0, seed=1)


async def of_plan_one(parley: Parley, email: str) -> Identity:
    """Somebody whose plan allows one answer at a time."""
    await parley.plans.save("one", "One", None, 6_000, 1)
    made = await person(parley, email)
    await parley.accounts.set_plan(made.user_id, "one")
    who = await parley.accounts.by_key(await parley.accounts.make_key(made.user_id, "test"))
    assert who is not None
    return who


async def refused(parley: Parley, who: Identity) -> None:
    with pytest.raises(TurnError) as error:
        await asyncio.wait_for(parley.turns.say(who, QUICK), 10)
    assert error.value.code == "too_many_streams"


async def test_a_place_is_a_persons_and_not_a_tenants(parley: Parley) -> None:
    ada, eve = await of_plan_one(parley, "ada@example.org"), await of_plan_one(parley, "eve@example.org")
    assert ada.tenant_id == eve.tenant_id
    running = await parley.turns.say(ada, SLOW)
    await refused(parley, ada)
    hers = await parley.turns.say(eve, QUICK)
    assert await answer(parley, hers.generation_id) == (expected(QUICK), "done")
    await refused(parley, ada)
    await parley.turns.stop(ada, running.generation_id)
    assert (await answer(parley, running.generation_id))[1] == "stopped"


@pytest.mark.parametrize("column", ["embedded", "fleet"])
async def test_a_long_preparation_keeps_its_place(
    start_parley: StartParley, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr("chat_app.turn.admit.PLACE_TTL_MS", 900)
    parley = await start_parley(**(fleet_settings(request) if column == "fleet" else {}), lease_ms=1_000)
    ada = await of_plan_one(parley, "ada@example.org")
    choose, preparing, loaded = parley.turns._preparation.choose, asyncio.Event(), asyncio.Event()

    async def after_loading(ask):  # type: ignore[no-untyped-def]
        preparing.set()
        await loaded.wait()
        return await choose(ask)

    monkeypatch.setattr(parley.turns._preparation, "choose", after_loading)
    first = asyncio.create_task(parley.turns.say(ada, QUICK))
    await preparing.wait()
    await asyncio.sleep(2.5)  # several times as long as a place lasts that nobody renews
    await refused(parley, ada)
    loaded.set()
    assert (await answer(parley, (await first).generation_id))[1] == "done"
    second = await parley.turns.say(ada, QUICK)
    assert (await answer(parley, second.generation_id))[1] == "done"
