"""Holds and settlements: atomic, once, and never beyond the limit, however many ask at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.billing.ledger import (
    ALREADY_SETTLED,
    OVER_QUOTA,
    Account,
    cost_micro,
    next_period_ms,
    period_of,
)
from chat_app.data.db.base import Unmet
from chat_app.data.ids import new_id, now_ms
from chat_app.data.tables.billing import Price
from chat_app.wiring import Parley


def account(generation_id: str = "") -> Account:
    return Account("default", "ada", generation_id or new_id(), period_of(now_ms()))


async def test_a_hold_counts_until_it_is_settled(parley: Parley) -> None:
    ada = account()
    await parley.db.batch(*parley.ledger.hold(ada, 700, 1000))
    assert (await parley.ledger.allowance("ada", 1000)).left == 300
    await parley.db.batch(*parley.ledger.settle(ada, 700, 150, 42))
    allowance = await parley.ledger.allowance("ada", 1000)
    assert (allowance.used, allowance.held, allowance.left) == (150, 0, 850)


async def test_a_hold_beyond_the_limit_leaves_no_trace(parley: Parley) -> None:
    with pytest.raises(Unmet) as unmet:
        await parley.db.batch(*parley.ledger.hold(account(), 1001, 1000))
    assert unmet.value.name == OVER_QUOTA
    assert await parley.db.query("SELECT id FROM ledger") == []


async def test_a_hundred_at_once_never_pass_the_limit(parley: Parley) -> None:
    async def hold() -> bool:
        try:
            await parley.db.batch(*parley.ledger.hold(account(), 30, 1000))
        except Unmet:
            return False
        return True

    granted = sum(await asyncio.gather(*(hold() for _ in range(100))))
    assert granted == 1000 // 30
    assert (await parley.ledger.allowance("ada", 1000)).held == granted * 30


async def test_a_second_settlement_changes_nothing(parley: Parley) -> None:
    ada = account()
    await parley.db.batch(*parley.ledger.hold(ada, 100, None))
    await parley.db.batch(*parley.ledger.settle(ada, 100, 60, 5))
    with pytest.raises(Unmet) as unmet:
        await parley.db.batch(*parley.ledger.settle(ada, 100, 60, 5))
    assert unmet.value.name == ALREADY_SETTLED
    allowance = await parley.ledger.allowance("ada", None)
    assert (allowance.used, allowance.held) == (60, 0)


async def test_the_running_sum_is_what_the_ledger_says(parley: Parley) -> None:
    for tokens in (10, 20, 30):
        ada = account()
        await parley.db.batch(*parley.ledger.hold(ada, 50, None))
        await parley.db.batch(*parley.ledger.settle(ada, 50, tokens, tokens))
    rows = await parley.db.query("SELECT SUM(tokens) AS tokens FROM ledger WHERE kind = 'settle' AND user_id = 'ada'")
    assert rows[0]["tokens"] == (await parley.ledger.allowance("ada", None)).used == 60


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**9), st.integers(0, 10**9))
def test_cost_is_exact_to_half_a_micro_unit(prompt: int, completion: int, per_prompt: int, per_token: int) -> None:
    cost = cost_micro(Price(model="m", prompt_micro=per_prompt, completion_micro=per_token), prompt, completion)
    exact = prompt * per_prompt + completion * per_token
    assert abs(cost * 1_000_000 - exact) <= 500_000


def test_no_price_costs_nothing() -> None:
    assert cost_micro(None, 1000, 1000) == 0


def test_a_month_begins_when_the_one_before_ends() -> None:
    december = 1_796_083_199_999  # 2026-11-30 23:59:59.999 UTC
    assert period_of(december) == "2026-11"
    assert next_period_ms(december) == december + 1
    assert period_of(next_period_ms(1_798_761_600_000 - 1)) == "2027-01"
