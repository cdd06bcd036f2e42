"""What a process finds when it takes jobs over: sealed ones, damaged ones, a newer release's, those of poison."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chat_app.accounts.identity import Identity
from chat_app.data.db.base import Statement
from chat_app.data.log.entries import text_of
from chat_app.sessions.generations import NotFound
from chat_app.turn import TurnError
from chat_app.turn.work import MOST_ATTEMPTS
from chat_app.wiring import Parley, build
from tests.parley import StartParley, answer, expected, fleet_settings, goes_on, person, prompt_tokens, script
from tests.turn.test_places import of_plan_one, refused

NOBODY_YET = script(tokens=10, rate=0, seed=1, prefill_s=60)
"""A question whose answer has not begun when its process goes."""


async def gone(parley: Parley, generation_id: str, **changed: int | str) -> None:
    """Leave a job as a process that has died left it, with these columns of its row."""
    columns = {"owner": "gone", **changed}
    sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 2))
    await parley.ownership.close()
    await parley.db.batch(Statement(f"UPDATE generation SET {sets} WHERE id = $1", (generation_id, *columns.values())))


async def month(parley: Parley, identity: Identity) -> tuple[int, int]:
    allowance = await parley.ledger.allowance(identity.user_id, None)
    return allowance.used, allowance.held


def requests_to(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The generations for which an engine is asked from now on."""
    asked, stream = list[str](), parley.client.stream

    def streaming(request):  # type: ignore[no-untyped-def]
        asked.append(request.request_id)
        return stream(request)

    monkeypatch.setattr(parley.client, "stream", streaming)
    return asked


async def test_who_takes_over_a_sealed_answer_asks_no_engine(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    asked, batch, sealed = requests_to(parley, monkeypatch), parley.db.batch, asyncio.Event()

    async def never_settled(*statements):  # type: ignore[no-untyped-def]
        if any(statement.sql.startswith("UPDATE generation SET status = $3") for statement in statements):
            sealed.set()
            await asyncio.Event().wait()
        return await batch(*statements)

    monkeypatch.setattr(parley.db, "batch", never_settled)
    started = await parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
    await asyncio.wait_for(sealed.wait(), 10)
    await parley.ownership.close()
    monkeypatch.setattr(parley.db, "batch", batch)
    await goes_on(parley)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    assert asked == [started.generation_id]
    assert await month(parley, ada) == (await prompt_tokens(parley, question) + 30, 0)


async def test_a_task_that_was_ended_before_its_first_step_is_taken_up_under_its_new_fence(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    asked, run = requests_to(parley, monkeypatch), parley.ownership.run

    def ended_at_once(row, *work):  # type: ignore[no-untyped-def]
        run(row, *work)
        if row.attempts == 1:
            parley.ownership._running[row.id].task.cancel()

    monkeypatch.setattr(parley.ownership, "run", ended_at_once)
    started = await parley.turns.say(ada, question := script(tokens=30, rate=0, seed=2))
    assert await asyncio.wait_for(answer(parley, started.generation_id), 15) == (expected(question), "done")
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.receipt["attempts"], asked) == (2, [started.generation_id])


@pytest.mark.parametrize("job", ["", "{", '{"prompt": []}', "[1]"])
async def test_a_damaged_job_ends_failed_and_holds_nothing(parley: Parley, job: str) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, NOBODY_YET)
    await gone(parley, started.generation_id, job=job)
    assert (await month(parley, ada))[1] > 0
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == ("", "failed")
    assert await month(parley, ada) == (0, 0)
    assert "damaged" in (await parley.generations.view(ada, started.generation_id)).error


async def test_a_newer_releases_job_is_left_alone(parley: Parley) -> None:
    ada = await person(parley)
    newer = await parley.turns.say(ada, NOBODY_YET)
    ours = await parley.turns.say(ada, script(tokens=10, rate=0, seed=1, prefill_s=0.5))
    await gone(parley, newer.generation_id, job_version=99)
    await gone(parley, ours.generation_id)
    await goes_on(parley)
    assert (await asyncio.wait_for(answer(parley, ours.generation_id), 15))[1] == "done"
    await asyncio.sleep(1.2)  # another look of the watch
    [row] = await parley.db.query(
        "SELECT owner, fence, attempts, status FROM generation WHERE id = $1", newer.generation_id
    )
    assert dict(row) == {"owner": "gone", "fence": 1, "attempts": 1, "status": "queued"}


async def test_a_job_that_was_tried_too_often_ends(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, NOBODY_YET)
    await gone(parley, started.generation_id, attempts=MOST_ATTEMPTS)
    asked = requests_to(parley, monkeypatch)
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == ("", "failed")
    assert asked == []
    assert await month(parley, ada) == (0, 0)


async def test_the_last_try_is_made(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=10, rate=0, seed=1, prefill_s=1))
    await gone(parley, started.generation_id, attempts=MOST_ATTEMPTS - 1)
    await goes_on(parley)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == (expected(question), "done")
    assert (await parley.generations.view(ada, started.generation_id)).receipt["attempts"] == MOST_ATTEMPTS


async def test_who_takes_over_has_the_place_before_the_first_heartbeat(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await of_plan_one(parley, "ada@example.org")
    started = await parley.turns.say(ada, NOBODY_YET)
    await gone(parley, started.generation_id)
    await parley.limits.leave(f"streams:{ada.user_id}", started.generation_id)
    asked = requests_to(parley, monkeypatch)
    await parley.ownership.start(parley.worker.work)  # without heartbeats
    async with asyncio.timeout(10):
        while not asked:
            await asyncio.sleep(0.02)
    await refused(parley, ada)
    assert asked == [started.generation_id]


@asynccontextmanager
async def another(parley: Parley) -> AsyncIterator[Parley]:
    """A second replica on the same stores."""
    other = build(parley.settings)
    parts = (other.db, other.log, other.leases, other.limits)
    for part in parts:
        await part.start()
    await goes_on(other)
    try:
        yield other
    finally:
        await other.ownership.close()
        await other.client.close()
        for part in reversed(parts):
            await part.close()


async def test_a_takeover_keeps_the_place_until_the_end(
    start_parley: StartParley, request: pytest.FixtureRequest
) -> None:
    dying = await start_parley(**fleet_settings(request), lease_ms=1_000)
    async with another(dying) as survivor:
        await survivor.plans.save("one", "One", None, 6_000, 1)
        made = await person(dying)
        await dying.accounts.set_plan(made.user_id, "one")
        ada = await dying.accounts.by_key(await dying.accounts.make_key(made.user_id, "test"))
        assert ada is not None
        started = await dying.turns.say(ada, question := script(tokens=300, rate=60, seed=3))
        following = asyncio.create_task(answer(survivor, started.generation_id))
        await asyncio.sleep(0.5)
        await dying.ownership.close()
        let_in = 0
        while not following.done():
            try:
                await survivor.turns.say(ada, script(tokens=1, rate=0, seed=4))
                let_in += await survivor.generations.status(started.generation_id) != "done"
            except TurnError as error:
                assert error.code == "too_many_streams"
            await asyncio.sleep(0.05)
        assert await following == (expected(question), "done")
        assert let_in == 0
        assert (await survivor.generations.view(ada, started.generation_id)).receipt["attempts"] == 2
        async with asyncio.timeout(5):
            while True:
                try:
                    last = await survivor.turns.say(ada, script(tokens=1, rate=0, seed=5))
                    break
                except TurnError:
                    await asyncio.sleep(0.05)
        assert (await answer(survivor, last.generation_id))[1] == "done"


async def test_a_deleted_threads_answer_stops_and_is_settled(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=2_000, rate=60, seed=6)
    started = await parley.turns.say(ada, question)
    seen, end, deleted = "", None, False
    async with asyncio.timeout(10):
        async for update in parley.viewer.follow(started.generation_id):
            seen, end = seen + text_of(update.entries), update.end
            if len(seen) > 60 and not deleted:
                deleted = True
                await parley.turns.delete(ada, str(started.thread_id))
    assert end == "stopped"
    assert expected(question).startswith(seen)
    used, held = await month(parley, ada)
    [row] = await parley.db.query(
        "SELECT prompt_tokens, completion_tokens FROM generation WHERE id = $1", started.generation_id
    )
    assert (used, held) == (row["prompt_tokens"] + row["completion_tokens"], 0)
    assert 0 < row["completion_tokens"] < 500
    with pytest.raises(NotFound):
        await parley.generations.view(ada, started.generation_id)


async def test_text_that_no_store_can_hold_is_cleaned_and_the_answer_ends_once(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    asked = requests_to(parley, monkeypatch)
    stream = parley.client.stream

    async def odd(request):  # type: ignore[no-untyped-def]
        async for chunk in stream(request):
            text = chunk.text.replace("NUL", "\x00").replace("HALF", "\ud83d").replace("MARK", "\x1ez{}\x1f")
            yield replace(chunk, text=text)

    monkeypatch.setattr(parley.client, "stream", odd)
    started = await parley.turns.say(ada, script(text="one NUL two HALF three MARK four", rate=0))
    assert await asyncio.wait_for(answer(parley, started.generation_id), 10) == ("one  two ? three z{} four", "done")
    thread = await parley.threads.open(ada, str(started.thread_id))
    assert thread.messages[-1].content == "one  two ? three z{} four"
    assert asked == [started.generation_id]
    assert (await month(parley, ada))[1] == 0
