"""Holds and settlements: atomic, once, never beyond a limit, and always what the ledger adds up to."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_app.billing.ledger import (
    ALREADY_GRANTED,
    ALREADY_SETTLED,
    FREE,
    NOT_CHARGED,
    NOTHING,
    OVER_QUOTA,
    Account,
    Allowance,
    Amount,
    Ledger,
    Rate,
    period_of,
)
from chat_app.data.db.base import Conflict, Database, Statement, Unmet
from chat_app.data.ids import new_id, now_ms

NOVEMBER, DECEMBER = "2026-11", "2026-12"
TABLES = ("ledger", "quota", "key_month")


@pytest.fixture
def ledger(db: Database) -> Ledger:
    return Ledger(db)


def account(generation_id: str = "", user_id: str = "ada", period: str = NOVEMBER) -> Account:
    return Account("default", user_id, generation_id or new_id(), period)


async def unmet(db: Database, statements: list[Statement], name: str) -> None:
    """The batch is refused for this reason and leaves no trace."""
    before = [await db.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]
    with pytest.raises(Unmet) as refusal:
        await db.batch(*statements)
    assert refusal.value.name == name
    assert [await db.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES] == before


async def month(ledger: Ledger, user_id: str = "ada", period: str = NOVEMBER) -> tuple[int, int, int, int]:
    """Used and held, tokens then money."""
    month = await ledger.allowance(user_id, None, period)
    return month.used, month.held, month.used_micro, month.held_micro


async def test_a_hold_counts_until_it_is_settled(db: Database, ledger: Ledger) -> None:
    ada = account()
    await db.batch(*ledger.hold(ada, 1, Amount(700, 70), 1000))
    assert await ledger.allowance("ada", 1000, NOVEMBER) == Allowance(1000, 0, 700, 1_796_083_200_000, 0, 70)
    await db.batch(*ledger.settle(ada, 1, Amount(700, 70), Amount(150, 42)))
    left = await ledger.allowance("ada", 1000, NOVEMBER)
    assert (left.used, left.held, left.left) == (150, 0, 850)
    assert (left.used_micro, left.held_micro) == (42, 0)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("amount", "limit", "fits"),
    [
        (Amount(100, 10**15), 100, True),
        (Amount(101, 0), 100, False),
        (Amount(10**15, 10**15), None, True),
        (Amount(0, 1), 0, True),
        (Amount(1, 0), 0, False),
    ],
)
async def test_a_hold_fits_to_the_last_token(
    db: Database, ledger: Ledger, begun: bool, amount: Amount, limit: int | None, fits: bool
) -> None:
    """The same in a month that has nothing yet, and in one that holds, has used and was granted something."""
    if begun:
        ada = account()
        await db.batch(*ledger.hold(ada, 1, Amount(9, 8)))
        await db.batch(*ledger.settle(ada, 1, Amount(9, 8), Amount(3, 2)))
        await db.batch(*ledger.hold(ada, 2, Amount(5, 7)))
        await db.batch(*ledger.grant(ada, Amount(8, 9), "gift"))
    if not fits:
        await unmet(db, ledger.hold(account(), 1, amount, limit), OVER_QUOTA)
        return
    await db.batch(*ledger.hold(account(), 1, amount, limit))
    assert await month(ledger) == ((3, amount.tokens + 5, 2, amount.micro + 7) if begun else (0, *hold_only(amount)))


@pytest.mark.parametrize(
    "begun", [account("g"), account("g", period="2026-10"), account("g", period=DECEMBER), account("g", user_id="bob")]
)
async def test_only_the_accounts_own_month_counts_as_begun(db: Database, ledger: Ledger, begun: Account) -> None:
    await db.batch(*ledger.hold(begun, 1, NOTHING))
    await unmet(db, ledger.hold(account(), 1, Amount(101), 100), OVER_QUOTA)
    await db.batch(*ledger.hold(account(), 1, Amount(100), 100))


def hold_only(amount: Amount) -> tuple[int, int, int]:
    return amount.tokens, 0, amount.micro


async def test_a_hundred_at_once_never_pass_the_limit(db: Database, ledger: Ledger) -> None:
    async def hold() -> bool:
        try:
            await db.batch(*ledger.hold(account(), 1, Amount(30, 7), 1000))
        except Unmet:
            return False
        return True

    taken = sum(await asyncio.gather(*(hold() for _ in range(100))))
    assert taken == 1000 // 30
    assert await month(ledger) == (0, taken * 30, 0, taken * 7)


async def test_a_second_settlement_changes_nothing(db: Database, ledger: Ledger) -> None:
    ada, held = account(), Amount(100, 10)
    await db.batch(*ledger.hold(ada, 1, held))
    await db.batch(*ledger.settle(ada, 1, held, Amount(60, 5)))
    await unmet(db, ledger.settle(ada, 1, held, Amount(60, 5)), ALREADY_SETTLED)
    await unmet(db, ledger.release(ada, 1, held), ALREADY_SETTLED)
    assert await month(ledger) == (60, 0, 5, 0)


async def test_of_many_settlements_at_once_one_is_charged(db: Database, ledger: Ledger) -> None:
    ada, held = account(), Amount(100, 10)
    await db.batch(*ledger.hold(ada, 1, held))
    settled = await asyncio.gather(
        *(db.batch(*ledger.settle(ada, 1, held, Amount(60, 5))) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(one, Unmet) for one in settled) == 9
    assert await month(ledger) == (60, 0, 5, 0)


async def test_each_step_holds_and_settles_for_itself(db: Database, ledger: Ledger) -> None:
    ada = account()
    await db.batch(*ledger.hold(ada, 1, Amount(100, 10)))
    await db.batch(*ledger.settle(ada, 1, Amount(100, 10), Amount(40, 4)), *ledger.hold(ada, 2, Amount(50, 5)))
    assert await month(ledger) == (40, 50, 4, 5)
    await db.batch(*ledger.settle(ada, 2, Amount(50, 5), Amount(20, 2)))
    assert await month(ledger) == (60, 0, 6, 0)
    with pytest.raises(Conflict):
        await db.batch(*ledger.hold(ada, 2, Amount(50, 5)))
    assert await month(ledger) == (60, 0, 6, 0)


async def test_what_is_released_costs_nothing(db: Database, ledger: Ledger) -> None:
    ada, held = account(), Amount(100, 10)
    await db.batch(*ledger.hold(ada, 1, held))
    await db.batch(*ledger.release(ada, 1, held))
    assert await month(ledger) == (0, 0, 0, 0)
    await unmet(db, ledger.settle(ada, 1, held, Amount(1, 1)), ALREADY_SETTLED)


async def test_more_than_was_held_is_charged_all_the_same(db: Database, ledger: Ledger) -> None:
    ada = account()
    await db.batch(*ledger.hold(ada, 1, Amount(100, 10), 100))
    await db.batch(*ledger.settle(ada, 1, Amount(100, 10), Amount(120, 12)))
    over = await ledger.allowance("ada", 100, NOVEMBER)
    assert (over.used, over.left, over.used_micro, over.held_micro) == (120, 0, 12, 0)


async def test_a_month_is_not_another_and_an_account_is_not_another(db: Database, ledger: Ledger) -> None:
    november, december = account("g"), account("h", period=DECEMBER)
    bob = account("b", user_id="bob")
    for one, tokens in ((november, 100), (december, 200), (bob, 400)):
        await db.batch(*ledger.hold(one, 1, Amount(tokens, tokens), tokens))
    await db.batch(*ledger.grant(december, Amount(1, 1), "gift"))
    await db.batch(*ledger.settle(december, 1, Amount(200, 200), Amount(20, 20)))
    assert await month(ledger) == (0, 100, 0, 100)
    assert await month(ledger, period=DECEMBER) == (20, 0, 20, 0)
    assert await month(ledger, "bob") == (0, 400, 0, 400)
    assert await month(ledger, "aaron") == await month(ledger, "zoe") == (0, 0, 0, 0)
    await db.batch(*ledger.settle(november, 1, Amount(100, 100), Amount(10, 10)))
    await db.batch(*ledger.void(december, 1))
    assert await month(ledger) == (10, 0, 10, 0)
    assert await month(ledger, period=DECEMBER) == (0, 0, 0, 0)
    assert await month(ledger, "bob") == (0, 400, 0, 400)
    assert (await ledger.allowance("ada", 5, NOVEMBER)).limit == 5  # granted in december


async def test_the_allowance_is_of_this_month_or_of_the_one_that_is_named(db: Database, ledger: Ledger) -> None:
    now = now_ms()
    await db.batch(*ledger.hold(account(period=period_of(now)), 1, Amount(7)))
    await db.batch(*ledger.hold(account(period="1999-12"), 1, Amount(9)))
    current = await ledger.allowance("ada", 10)
    assert (current.held, current.left) == (7, 3)
    assert period_of(current.resets_at - 1) == period_of(now) < period_of(current.resets_at)
    past = await ledger.allowance("ada", 10, "1999-12")
    assert (past.held, past.left, past.resets_at) == (9, 1, 946_684_800_000)
    before = await ledger.allowance("ada", 10, "1999-11")
    assert (before.held, before.resets_at) == (0, 944_006_400_000)
    unknown = await ledger.allowance("nobody", None)
    assert (unknown.used, unknown.held, unknown.left) == (0, 0, None)


async def test_a_grant_adds_to_the_limit_once(db: Database, ledger: Ledger) -> None:
    ada = account()
    await db.batch(*ledger.grant(ada, Amount(50, 5), "gift"))
    await unmet(db, ledger.grant(ada, Amount(50, 5), "gift"), ALREADY_GRANTED)
    await unmet(db, ledger.grant(account(user_id="bob"), Amount(1, 1), "gift"), ALREADY_GRANTED)
    await db.batch(*ledger.grant(ada, Amount(1, 1), "another"))
    granted = await ledger.allowance("ada", 100, NOVEMBER)
    assert (granted.limit, granted.left) == (151, 151)
    assert (await ledger.allowance("ada", None, NOVEMBER)).limit is None
    await unmet(db, ledger.hold(account(), 1, Amount(152), 100), OVER_QUOTA)
    await db.batch(*ledger.hold(account(), 1, Amount(151), 100))
    [row] = await db.query("SELECT * FROM ledger WHERE generation_id = 'gift'")
    assert (row["kind"], row["tokens"], row["cost_micro"], row["user_id"]) == ("grant", 50, 5, "ada")


async def test_a_void_takes_a_charge_back_once(db: Database, ledger: Ledger) -> None:
    ada = account()
    for seq, used in ((1, Amount(40, 4)), (2, Amount(30, 3))):
        await db.batch(*ledger.hold(ada, seq, Amount(100, 10)))
        await unmet(db, ledger.void(ada, seq), NOT_CHARGED)  # not settled yet
        await db.batch(*ledger.settle(ada, seq, Amount(100, 10), used))
    await unmet(db, ledger.void(account(), 1), NOT_CHARGED)
    await unmet(db, ledger.void(ada, 3), NOT_CHARGED)
    await unmet(db, ledger.void(replace(ada, user_id="bob"), 1), NOT_CHARGED)
    await unmet(db, ledger.void(replace(ada, period=DECEMBER), 1), NOT_CHARGED)
    await db.batch(*ledger.void(ada, 1))
    assert await month(ledger) == (30, 0, 3, 0)
    await unmet(db, ledger.void(ada, 1), NOT_CHARGED)
    await unmet(db, ledger.settle(ada, 1, Amount(100, 10), Amount(40, 4)), ALREADY_SETTLED)
    rows = await db.query("SELECT kind, seq, tokens, cost_micro, period FROM ledger WHERE kind = 'void'")
    assert [tuple(row.values()) for row in rows] == [("void", 1, 40, 4, NOVEMBER)]
    await db.batch(*ledger.void(ada, 2))
    assert await month(ledger) == (0, 0, 0, 0)


async def test_of_many_voids_at_once_one_counts(db: Database, ledger: Ledger) -> None:
    ada = account()
    await db.batch(*ledger.hold(ada, 1, Amount(9, 9)), *ledger.settle(ada, 1, Amount(9, 9), Amount(7, 7)))
    voided = await asyncio.gather(*(db.batch(*ledger.void(ada, 1)) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, Unmet) for one in voided) == 9
    assert await month(ledger) == (0, 0, 0, 0)


async def test_an_entry_says_whose_it_is(db: Database, ledger: Ledger) -> None:
    ada = account("g")
    began = now_ms()
    await db.batch(*ledger.hold(ada, 3, Amount(5, 6)), *ledger.settle(ada, 3, Amount(5, 6), Amount(3, 2)))
    rows = await db.query("SELECT * FROM ledger ORDER BY kind")
    assert [(row["kind"], row["tokens"], row["cost_micro"]) for row in rows] == [("hold", 5, 6), ("settle", 3, 2)]
    for row in rows:
        assert (row["tenant_id"], row["user_id"], row["generation_id"]) == ("default", "ada", "g")
        assert (row["seq"], row["period"]) == (3, NOVEMBER) and began <= row["created_at"] <= now_ms()


@pytest.mark.parametrize("amount", [Amount(-1, 0), Amount(0, -1)])
def test_no_amount_is_negative(amount: Amount) -> None:
    ledger = Ledger(None)  # type: ignore[arg-type]
    for refused in (
        lambda: ledger.hold(account(), 1, amount),
        lambda: ledger.settle(account(), 1, amount, NOTHING),
        lambda: ledger.settle(account(), 1, NOTHING, amount),
        lambda: ledger.release(account(), 1, amount),
        lambda: ledger.grant(account(), amount, "gift"),
    ):
        with pytest.raises(ValueError):
            refused()


def test_amounts_add_up() -> None:
    assert Amount(5, 7) + Amount(1, 2) == Amount(6, 9)
    assert Amount(5, 7) - Amount(1, 2) == Amount(4, 5)
    assert Amount() == NOTHING == Amount(0, 0)


async def test_prices_of_several_models_at_once(db: Database, ledger: Ledger) -> None:
    for model, prompt, completion in (("a", 1, 2), ("b", 3, 4), ("c", 5, 6)):
        await db.batch(
            Statement(
                "INSERT INTO price (model, prompt_micro, completion_micro) VALUES ($1, $2, $3)",
                (model, prompt, completion),
            )
        )
    assert await ledger.rates(["c", "a", "unknown", "a"]) == {"a": Rate(1, 2), "c": Rate(5, 6)}
    assert await ledger.rates([]) == {}


AMOUNTS = st.builds(Amount, st.integers(0, 1_000), st.integers(0, 1_000))
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "settle", "release", "grant", "void"]),
        st.sampled_from(["ada", "bob"]),
        st.sampled_from([NOVEMBER, DECEMBER]),
        st.integers(1, 3),
        AMOUNTS,
        AMOUNTS,
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, limit=st.none() | st.integers(0, 2_000))
async def test_the_sums_are_what_the_ledger_adds_up_to(
    db: Database,
    ledger: Ledger,
    operations: list[tuple[str, str, str, int, Amount, Amount]],
    limit: int | None,
) -> None:
    await db.batch(Statement("DELETE FROM ledger"), Statement("DELETE FROM quota"))
    open_holds: dict[tuple[str, str, int], Amount] = {}

    async def attempt(statements: list[Statement]) -> bool:
        try:
            await db.batch(*statements)
        except (Unmet, Conflict):
            return False
        return True

    for kind, user, period, seq, amount, used in operations:
        key = (user, period, seq)
        one = account(f"{user} {period}", user, period)
        held = open_holds.get(key, NOTHING)
        if kind == "hold":
            if await attempt(ledger.hold(one, seq, amount, limit)):
                open_holds[key] = amount
        elif kind == "grant":
            await attempt(ledger.grant(one, amount, f"{user} {period} {seq}"))
        elif kind == "void":
            await attempt(ledger.void(one, seq))
        elif key in open_holds:
            within = Amount(min(used.tokens, held.tokens), min(used.micro, held.micro))
            last = ledger.settle(one, seq, held, within) if kind == "settle" else ledger.release(one, seq, held)
            assert await attempt(last)
            del open_holds[key]
        await as_the_ledger_says(db, limit)
    for (user, period, seq), held in open_holds.items():
        await db.batch(*ledger.release(account(f"{user} {period}", user, period), seq, held))
    await as_the_ledger_says(db, limit)
    assert all(row["held"] == row["held_micro"] == 0 for row in await db.query("SELECT * FROM quota"))


async def as_the_ledger_says(db: Database, limit: int | None) -> None:
    """`quota` is the sum of the entries, nothing in it is negative, and used and held tokens stay within the limit."""
    entries = await db.query("SELECT * FROM ledger")
    settled = {(row["generation_id"], row["seq"]) for row in entries if row["kind"] == "settle"}
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in entries:
        for column, suffix in (("tokens", ""), ("cost_micro", "_micro")):
            where = (row["user_id"], row["period"])
            match row["kind"]:
                case "hold":
                    sums[*where, "held" + suffix] += row[column] * ((row["generation_id"], row["seq"]) not in settled)
                case "settle":
                    sums[*where, "used" + suffix] += row[column]
                case "void":
                    sums[*where, "used" + suffix] -= row[column]
                case "grant":
                    sums[*where, "granted" + suffix] += row[column]
    for row in await db.query("SELECT * FROM quota"):
        assert limit is None or row["used"] + row["held"] <= limit + row["granted"]
        for suffix in ("", "_micro"):
            used, held, granted = (row[name + suffix] for name in ("used", "held", "granted"))
            where = (row["user_id"], row["period"])
            assert (used, held, granted) == tuple(
                sums.pop((*where, name + suffix), 0) for name in ("used", "held", "granted")
            )
            assert used >= 0 and held >= 0
    assert not +sums  # no entry without its month


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**9), st.integers(0, 10**9))
def test_cost_is_exact_to_half_a_micro_unit(prompt: int, completion: int, per_prompt: int, per_token: int) -> None:
    cost = Rate(per_prompt, per_token).cost(prompt, completion)
    exact = prompt * per_prompt + completion * per_token
    assert -500_000 < cost * 1_000_000 - exact <= 500_000, "half a micro-unit is rounded up"


def test_no_price_costs_nothing() -> None:
    assert FREE.cost(1000, 1000) == 0


def test_a_month_begins_when_the_one_before_ends() -> None:
    december = 1_796_083_200_000  # 2026-12-01 00:00 UTC
    assert (period_of(december - 1), period_of(december)) == (NOVEMBER, DECEMBER)


async def test_a_keys_month_is_the_sum_of_its_calls_and_of_no_other(db: Database, ledger: Ledger) -> None:
    mine, next_one = (replace(account(), api_key_id="mine") for _ in range(2))
    hers = replace(account(), api_key_id="hers")
    for each in (mine, next_one, hers, account()):
        await db.batch(*ledger.hold(each, 1, Amount(1_000, 9)))
    assert await ledger.tokens_of_key("mine", NOVEMBER) == 2_000
    await db.batch(*ledger.settle(mine, 1, Amount(1_000, 9), Amount(30, 3)))
    await db.batch(*ledger.release(next_one, 1, Amount(1_000, 9)))
    assert await ledger.tokens_of_key("mine", NOVEMBER) == 30
    assert await ledger.tokens_of_key("mine", DECEMBER) == 0
    assert await ledger.tokens_of_key("hers", NOVEMBER) == 1_000
    await db.batch(*ledger.hold(mine, 2, Amount(500)))
    assert await ledger.tokens_of_key("mine", NOVEMBER) == 530


async def test_what_is_refused_or_comes_again_leaves_a_keys_month_as_it_was(db: Database, ledger: Ledger) -> None:
    mine = replace(account(), api_key_id="mine")
    await db.batch(*ledger.hold(mine, 1, Amount(100)))
    await unmet(db, ledger.hold(mine, 2, Amount(100), 150), OVER_QUOTA)
    await db.batch(*ledger.settle(mine, 1, Amount(100), Amount(40)))
    await unmet(db, ledger.settle(mine, 1, Amount(100), Amount(40)), ALREADY_SETTLED)
    assert await ledger.tokens_of_key("mine", NOVEMBER) == 40
    await db.batch(*ledger.void(mine, 1))
    await unmet(db, ledger.void(mine, 1), NOT_CHARGED)
    assert await ledger.tokens_of_key("mine", NOVEMBER) == 0


async def test_a_keys_month_is_one_row_however_many_calls_it_has(db: Database, ledger: Ledger) -> None:
    for at in range(3):
        mine = replace(account(), api_key_id="mine")
        await db.batch(*ledger.hold(mine, 1, Amount(10)))
        await db.batch(*ledger.settle(mine, 1, Amount(10), Amount(at)))
    [row] = await db.query("SELECT api_key_id, period, used, held FROM key_month")
    assert dict(row) == {"api_key_id": "mine", "period": NOVEMBER, "used": 3, "held": 0}
