"""Places among a person's running answers, on a fleet whose Valkey is late, loses replies, or goes away; and what else
happens to a turn meanwhile."""

import asyncio

import pytest

from chat_app.data.cancel import cancelled
from chat_app.sessions import log_writer, ownership
from chat_app.turn import TurnError
from tests.faults.conftest import Proxied
from tests.faults.test_taken_over import another
from tests.parley import StartParley, answer, expected, fleet_settings, goes_on, person, script
from tests.turn.test_places_freed import is_free, one_at_a_time


async def test_a_renewal_that_comes_late_occupies_nothing(fleet: Proxied) -> None:
    parley = fleet.parley
    ada = await one_at_a_time(parley)
    started = await parley.turns.say(ada, script(tokens=150, rate=60, seed=3))
    held = fleet.log.hold_next_request(b"parley:places:")  # the heartbeat's
    await asyncio.wait_for(held.happened.wait(), 5)
    await answer(parley, started.generation_id)
    held.release()
    await asyncio.sleep(0.5)
    await is_free(parley, ada)


async def test_who_wakes_from_sleep_occupies_nothing_for_an_answer_that_ended_elsewhere(
    start_parley: StartParley, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = await start_parley(**fleet_settings(request), lease_ms=1_000)
    async with another(sleeper) as survivor:
        ada = await one_at_a_time(sleeper)
        stream, wake = sleeper.client.stream, asyncio.Event()

        async def asleep(request):  # type: ignore[no-untyped-def]
            async for chunk in stream(request):
                yield chunk
                await wake.wait()

        monkeypatch.setattr(sleeper.client, "stream", asleep)
        started = await sleeper.turns.say(ada, script(tokens=40, rate=40, seed=3))
        await asyncio.sleep(0.2)
        await cancelled(sleeper.ownership._watching, sleeper.ownership._beating, sleeper.ownership._keeping)
        assert (await asyncio.wait_for(answer(survivor, started.generation_id), 20))[1] == "done"
        assert sleeper.ownership.running == 1
        await goes_on(sleeper)
        async with asyncio.timeout(5):
            while sleeper.ownership.running:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        await is_free(survivor, ada)


async def test_a_place_whose_reply_was_lost_is_left(fleet: Proxied) -> None:
    ada = await one_at_a_time(fleet.parley)
    await is_free(fleet.parley, ada)  # from here on the server knows the script
    for _ in range(3):  # as often as it is tried
        fleet.log.drop_next_answer(b"$5\r\n60000\r\n")  # a place's time to live
    with pytest.raises(TurnError) as error:
        await fleet.parley.turns.say(ada, script(tokens=1, rate=0))
    assert error.value.code == "storage_unavailable"
    await is_free(fleet.parley, ada)


async def test_while_the_log_is_away_no_attempt_is_used_up(fleet: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "PATIENCE_S", 0.2)
    monkeypatch.setattr(ownership, "PAUSE_S", 0.02)
    monkeypatch.setattr(ownership, "MOST_PAUSE_S", 0.1)
    monkeypatch.setattr(ownership, "WATCH_S", 0.1)
    monkeypatch.setattr("chat_app.turn.work.MOST_ATTEMPTS", 3)
    parley = fleet.parley
    await parley.ownership.close()
    await goes_on(parley)
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=100, rate=60, seed=3))
    await asyncio.sleep(0.5)
    fleet.log.mode = "reset"
    async with asyncio.timeout(30):
        while (await parley.db.query("SELECT fence FROM generation"))[0]["fence"] < 6:
            await asyncio.sleep(0.1)
    fleet.log.mode = "pass"
    assert await asyncio.wait_for(answer(parley, started.generation_id), 30) == (expected(question), "done")
    assert (await parley.generations.view(ada, started.generation_id)).receipt["attempts"] == 2


async def test_a_thread_is_deleted_while_the_log_is_away_and_its_answer_stops_elsewhere(
    fleet: Proxied, start_parley: StartParley, request: pytest.FixtureRequest
) -> None:
    owner = await start_parley(**fleet_settings(request))
    ada = await person(owner)
    started = await owner.turns.say(ada, question := script(tokens=2_000, rate=60, seed=3))
    fleet.log.mode = "reset"
    await fleet.parley.turns.delete(ada, str(started.thread_id))
    text, end = await asyncio.wait_for(answer(owner, started.generation_id), 15)
    assert end == "stopped" and expected(question).startswith(text)
    [row] = await owner.db.query("SELECT completion_tokens FROM generation WHERE id = $1", started.generation_id)
    assert row["completion_tokens"] < 1_000
