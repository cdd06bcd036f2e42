"""What each user gets of slots and tokens while others want them too, in virtual time."""

import asyncio
from collections import Counter

import pytest

from inference import fairqueue
from inference.fairqueue import FairQueue
from tests.inference.queued import Engine, loaded


@pytest.mark.parametrize("weights", [(1, 1), (1, 4), (2, 3)])
async def test_users_who_always_want_more_share_by_weight(weights: tuple[int, int]) -> None:
    engine = Engine(FairQueue(1, 0, 1000))
    for user, weight in zip("ab", weights, strict=True):
        for _ in range(100):
            engine.add(user, weight=weight)
    await engine.settle()
    await engine.finish(99)
    served = Counter(engine.began[1:])
    assert abs(served["a"] / weights[0] - served["b"] / weights[1]) <= 1
    for task in engine.tasks:
        task.cancel()
    await asyncio.gather(*engine.tasks, return_exceptions=True)


async def test_what_was_not_spent_is_given_back() -> None:
    """Two users ask for as much, but one takes a tenth of it: they get ten times as many turns."""
    engine = Engine(FairQueue(1, 0, 1000))
    for _ in range(110):
        engine.add("modest", 1000, spends=100)
        engine.add("greedy", 1000)
    await engine.settle()
    await engine.finish(110)
    served = Counter(engine.began)
    assert 8 <= served["modest"] / served["greedy"] <= 12
    for task in engine.tasks:
        task.cancel()
    await asyncio.gather(*engine.tasks, return_exceptions=True)


async def test_while_others_are_about_nobody_holds_every_slot() -> None:
    queue = FairQueue(8, 0, 100)
    alone = await loaded(queue, [("heavy", 1)] * 10)
    assert queue.running == 8
    await alone.drain()
    engine = await loaded(queue, [("light", 1)] + [("heavy", 1)] * 10)
    assert Counter(engine.began) == {"light": 1, "heavy": 6}
    engine.add("late")
    await engine.settle()
    assert engine.began[-1] == "late"
    await engine.drain()


async def test_requests_without_a_user_are_not_held_to_a_share() -> None:
    engine = await loaded(FairQueue(8, 0, 100), [("light", 1)] + [("", 1)] * 10)
    assert Counter(engine.began) == {"light": 1, "": 7}
    await engine.drain()
    monopoly = await loaded(FairQueue(8, 0, 100), [("", 1)] + [("heavy", 1)] * 10)
    assert Counter(monopoly.began) == {"": 1, "heavy": 7}
    await monopoly.drain()


async def test_who_was_away_has_saved_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairqueue, "ABOUT_S", 0.0)
    engine = await loaded(FairQueue(1, 0, 100), [("busy", 1)] * 20)
    await engine.finish(10)
    for _ in range(20):
        engine.add("idle till now")
    await engine.settle()
    before = len(engine.began)
    await engine.finish(10)
    assert Counter(engine.began[before:])["busy"] >= 4
    await engine.drain()
    assert not engine.queue._users, "users who left are still remembered"


async def test_while_others_are_about_nobody_holds_more_than_their_share_of_the_tokens() -> None:
    """Three quarters of them exactly, and again once some are given back."""
    engine = Engine(FairQueue(8, 100, 50))
    for user, tokens in (("light", 1), ("heavy", 50), ("heavy", 25), ("heavy", 1), ("heavy", 40)):
        engine.add(user, tokens)
        await engine.settle()
    assert engine.began == ["light", "heavy", "heavy"]
    engine.running.pop(1).set()
    await engine.settle()
    assert engine.began == ["light", *["heavy"] * 4]
    assert engine.queue.held == 1 + 25 + 1 + 40
    await engine.drain()


async def test_who_only_waits_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairqueue, "ABOUT_S", 0.0)
    engine = Engine(FairQueue(3, 100, 50))
    engine.add("heavy", 5)
    engine.add("big", 90)
    await engine.settle()
    engine.running.pop(1).set()  # From now on its clock is ahead of the heavy user's.
    await engine.settle()
    for user, tokens in (("heavy", 20), ("big", 90), ("heavy", 5)):
        engine.add(user, tokens)
        await engine.settle()
    assert engine.began == ["heavy", "big", "heavy"], "the heavy user took the last slot"
    await engine.drain()


async def test_whose_answer_takes_long_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairqueue, "ABOUT_S", 0.0)
    engine = await loaded(FairQueue(8, 0, 100), [("light", 1)] + [("heavy", 1)] * 10)
    assert Counter(engine.began) == {"light": 1, "heavy": 6}
    await engine.drain()


async def test_who_was_here_a_moment_ago_is_about() -> None:
    engine = Engine(FairQueue(8, 0, 100))
    engine.add("light")
    await engine.settle()
    await engine.finish()
    for _ in range(10):
        engine.add("heavy")
    await engine.settle()
    assert engine.began == ["light", *["heavy"] * 6]
    await engine.drain()


async def test_the_end_of_a_busy_time_is_the_end_of_all_debts() -> None:
    engine = Engine(FairQueue(1, 0, 100))
    engine.add("a", 1_000)
    await engine.settle()
    await engine.finish()
    for user in ("x", "a", "b"):
        engine.add(user)
        await engine.settle()
    await engine.drain()
    assert engine.began == ["a", "x", "a", "b"]


async def test_a_debt_is_not_forgotten_while_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairqueue, "ABOUT_S", 0.0)
    engine = Engine(FairQueue(2, 0, 100))
    for user, tokens in (("other", 10), ("a", 1_000)):
        engine.add(user, tokens)
        await engine.settle()
    engine.running.pop(1).set()
    await engine.settle()
    for user in ("x", "a", "b"):
        engine.add(user)
        await engine.settle()
    await engine.drain()
    assert engine.began == ["other", "a", "x", "b", "a"]


async def test_what_is_given_back_goes_by_weight() -> None:
    engine = Engine(FairQueue(3, 0, 100))
    engine.add("other")
    engine.add("a", 1_000, weight=4, spends=100)
    await engine.settle()
    engine.running.pop(1).set()
    await engine.settle()
    assert engine.queue._users["a"].finish - engine.queue._virtual == 25
    await engine.drain()


async def test_who_is_at_their_shares_end_does_not_stand_in_the_way() -> None:
    """Their turn would be first, but the slot that is free is kept for others."""
    engine = Engine(FairQueue(4, 0, 100))
    engine.add("heavy", weight=1_000)
    engine.add("late", 1_000)
    await engine.settle()
    engine.running.pop(1).set()
    await engine.settle()
    for _ in range(3):
        engine.add("heavy", weight=1_000)
        await engine.settle()
    engine.add("late")
    await engine.settle()
    assert engine.began == ["heavy", "late", "heavy", "heavy", "late"]
    assert engine.queue.waiting == 1
    await engine.drain()
