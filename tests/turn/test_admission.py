"""Admission before a program's body: the place it gets, and that it is left if and only if no turn has begun in it."""

import asyncio
from contextlib import suppress

import pytest

from chat_app.accounts.grant import Grant, Rights
from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import period_of
from chat_app.billing.plans import Terms
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.turn import TurnError
from chat_app.turn.admit import Admission, new_row
from chat_app.turn.program import asked
from chat_app.wiring import Parley
from inference.protocol import Message
from tests.parley import answer, person, script


async def one_at_a_time(parley: Parley) -> Grant:
    """The key of somebody whose plan allows one answer at a time."""
    await parley.plans.save("one", "One", None, 6_000, 1)
    ada = await person(parley)
    await parley.accounts.set_plan(ada.user_id, "one")
    grant = await parley.accounts.grant(await parley.accounts.make_key(ada.user_id, "test"))
    assert grant is not None
    return grant


async def is_taken(parley: Parley, grant: Grant) -> None:
    with pytest.raises(TurnError) as error:
        await parley.turns.admit(grant)
    assert (error.value.code, error.value.status, error.value.retry_after) == ("too_many_streams", 429, 2)
    assert "(One) allows 1 answer at a time" in str(error.value)


async def is_free(parley: Parley, grant: Grant) -> None:
    async with await parley.turns.admit(grant):
        pass


async def test_a_place_is_held_from_admission_and_left_if_no_turn_begins(parley: Parley) -> None:
    grant = await one_at_a_time(parley)
    for error in (None, ValueError, asyncio.CancelledError):
        with suppress(ValueError, asyncio.CancelledError):
            async with await parley.turns.admit(grant):
                await is_taken(parley, grant)
                if error is not None:
                    raise error
    await is_free(parley, grant)


async def test_a_turn_that_has_begun_keeps_the_place_when_its_program_is_gone(parley: Parley) -> None:
    grant = await one_at_a_time(parley)
    slow = asked(grant.identity, [Message("user", script(tokens=2_000, rate=20))], most=1_000, detached=True)
    async with await parley.turns.admit(grant) as place:
        started = await parley.turns.begin(slow, place)
    await is_taken(parley, grant)
    await parley.turns.stop(grant.identity, started.generation_id)
    assert (await answer(parley, started.generation_id))[1] == "stopped"
    async with asyncio.timeout(10):
        while parley.ownership.running:
            await asyncio.sleep(0.01)
    await is_free(parley, grant)


async def test_a_place_that_was_taken_without_anybody_knowing_is_left(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = await one_at_a_time(parley)
    enter = parley.limits.enter

    async def lost(*given):  # type: ignore[no-untyped-def]
        assert await enter(*given)
        raise LimitsUnavailable("the connection was lost behind the command")

    monkeypatch.setattr(parley.limits, "enter", lost)
    with pytest.raises(LimitsUnavailable):
        await parley.turns.admit(grant)
    monkeypatch.undo()
    await is_free(parley, grant)


async def test_who_is_cancelled_while_leaving_has_left(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = await one_at_a_time(parley)
    leave, leaving, go_on, left = parley.limits.leave, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*given):  # type: ignore[no-untyped-def]
        leaving.set()
        await go_on.wait()
        await leave(*given)
        left.set()

    monkeypatch.setattr(parley.limits, "leave", slow)
    call = asyncio.create_task(is_free(parley, grant))
    await asyncio.wait_for(leaving.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    await asyncio.wait_for(left.wait(), 10)
    monkeypatch.undo()
    await is_free(parley, grant)


class Waiting:
    """Limits by which everybody has to wait so long, in milliseconds."""

    def __init__(self, wait_ms: int) -> None:
        self.wait_ms = wait_ms
        self.asked: list[tuple[str, int]] = []

    async def hit(self, name: str, per_minute: int) -> int:
        self.asked.append((name, per_minute))
        return self.wait_ms


ADA = Identity("ada", "t", "ada@example.org", "Ada", "user", "one")
ONE = Terms("one", "One", None, 1_200, 1, None, 1)


@pytest.mark.parametrize(("wait_ms", "said"), [(1, "1 s"), (1_000, "1 s"), (1_001, "2 s"), (59_999, "60 s")])
@pytest.mark.parametrize("whose", ["plan", "key"])
async def test_who_is_too_fast_is_told_when_to_try_again(wait_ms: int, said: str, whose: str) -> None:
    limits, row = Waiting(wait_ms), new_row(ADA, "api", ONE, "me")
    admission = Admission(limits, None, None)  # type: ignore[arg-type]
    with pytest.raises(TurnError) as error:
        if whose == "plan":
            await admission.enter(row, ONE)
        else:
            await admission.count_key(row, Grant(ADA, "k", Rights(requests_per_minute=1), "s"))
    why = {"plan": "Your plan (One) allows 1,200 messages a minute.", "key": "This key allows 1 call a minute."}[whose]
    assert error.value.message == f"{why} Try again in {said}."
    assert (error.value.code, error.value.status, error.value.retry_after) == ("rate_limited", 429, wait_ms / 1_000)
    assert limits.asked == [("turns:ada", 1_200) if whose == "plan" else ("key:k", 1)]


@pytest.mark.parametrize(
    ("used", "month", "refused"), [(99, 0, False), (100, 0, True), (101, 0, True), (100, -1, False)]
)
async def test_the_tokens_of_a_key_are_those_of_the_month_and_used_up_at_its_limit(
    parley: Parley, used: int, month: int, refused: bool
) -> None:
    await parley.plans.save("one", "One", None, 6_000, 1)
    ada = await person(parley)
    await parley.accounts.set_plan(ada.user_id, "one")
    keys = [await parley.accounts.make_key(ada.user_id, "test", Rights(monthly_tokens=100)) for _ in range(2)]
    grant, other = [await parley.accounts.grant(key) for key in keys]
    assert grant is not None and other is not None
    period = "2001-01" if month else period_of(now_ms())
    await parley.db.batch(
        Statement(
            "INSERT INTO key_month (api_key_id, period, used, held) VALUES ($1, $2, $3, 1)",
            (grant.key_id, period, used - 1),
        )
    )
    if refused:
        with pytest.raises(TurnError) as error:
            await parley.turns.admit(grant)
        assert (error.value.code, error.value.status, error.value.retry_after) == ("quota_exceeded", 429, None)
        assert error.value.message.startswith("This month's 100 tokens of this key are used up.")
    else:
        async with await parley.turns.admit(grant) as place:
            assert place.row.api_key_id == grant.key_id
    await is_free(parley, other)  # and no place is taken by who was refused
