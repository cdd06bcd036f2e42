"""The limits in memory by the millisecond, on a clock that the test moves."""

import pytest

from chat_app.data.limits import memory
from chat_app.data.limits.memory import MemoryLimits


class Clock:
    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self) -> float:
        return self.ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memory, "_now", clock)
    return clock


async def test_a_refusal_asks_for_at_least_a_millisecond(clock: Clock) -> None:
    limits = MemoryLimits()
    assert await limits.hit("k", 60_000, burst=1) == 0
    clock.ms = 0.9
    assert await limits.hit("k", 60_000, burst=1) == 1
    clock.ms = 1
    assert await limits.hit("k", 60_000, burst=1) == 0


async def test_a_long_pause_earns_no_more_than_the_burst(clock: Clock) -> None:
    limits = MemoryLimits()
    assert await limits.hit("k", 60, burst=2) == 0
    clock.ms = 1_000_000
    assert [await limits.hit("k", 60, burst=2) for _ in range(4)] == [0, 0, 1_000, 1_000]


async def test_past_the_bound_the_longest_untouched_key_goes_first(clock: Clock) -> None:
    limits = MemoryLimits(most=2)
    for key in ("old", "new", "old", "newest"):
        assert await limits.hit(key, 2) == 0
    assert await limits.hit("old", 2) > 0  # touched again, so it is still known
    assert [await limits.hit("new", 2) for _ in range(2)] == [0, 0]  # forgotten


async def test_past_the_bound_the_longest_untouched_places_go_first(clock: Clock) -> None:
    limits = MemoryLimits(most=2)
    for key in ("old", "new", "old", "newest"):
        assert await limits.enter(key, "a", 1, 60_000)
    assert not await limits.enter("old", "b", 1, 60_000)
    assert await limits.enter("new", "b", 1, 60_000)


async def test_a_place_is_free_at_the_very_millisecond_it_runs_out(clock: Clock) -> None:
    limits = MemoryLimits()
    assert await limits.enter("k", "a", 1, 100)
    clock.ms = 99
    assert not await limits.enter("k", "b", 1, 100)
    clock.ms = 100
    assert await limits.enter("k", "b", 1, 100)


async def test_renewing_counts_as_touching(clock: Clock) -> None:
    limits = MemoryLimits(most=2)
    assert await limits.enter("old", "a", 1, 60_000)
    assert await limits.enter("new", "a", 1, 60_000)
    assert await limits.renew([("old", "a")], 60_000) == {("old", "a")}
    assert await limits.enter("newest", "a", 1, 60_000)
    assert not await limits.enter("old", "b", 1, 60_000)
    assert await limits.enter("new", "b", 1, 60_000)


async def test_what_has_run_out_is_not_renewed(clock: Clock) -> None:
    limits = MemoryLimits()
    assert await limits.enter("k", "a", 1, 100)
    clock.ms = 99
    assert await limits.renew([("k", "a"), ("k", "stranger"), ("other", "a")], 100) == {("k", "a")}
    clock.ms = 199
    assert await limits.renew([("k", "a")], 100) == set()
    assert await limits.enter("k", "b", 1, 100)
