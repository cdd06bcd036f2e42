"""Plans: seeded once, changed at once, never left without sense."""

import asyncio

import pytest

from chat_app.billing.plans import SEEDS, PlanError, Plans
from chat_app.wiring import Parley
from tests.parley import person

TEAM = {"name": "Team", "monthly_tokens": 1_000, "requests_per_minute": 10, "concurrent_streams": 2}


async def test_an_installation_starts_with_three_plans(parley: Parley) -> None:
    assert await parley.plans.all() == list(SEEDS)
    await parley.plans.save("free", "Gratis", 5, 1, 1)
    await asyncio.gather(parley.plans.seed(), parley.plans.seed())
    assert (await parley.plans.terms("free")).name == "Gratis"
    assert len(await parley.plans.all()) == 3


async def test_a_change_is_in_force_at_once(parley: Parley) -> None:
    made = await parley.plans.save("team", **TEAM, max_output_tokens=50, weight=3, position=7, new=True)
    assert await parley.plans.terms("team") == made
    await parley.plans.save("team", **{**TEAM, "monthly_tokens": None}, position=7)
    terms = await parley.plans.terms("team")
    assert (terms.monthly_tokens, terms.max_output_tokens, terms.weight) == (None, None, 1)
    assert [plan.id for plan in await parley.plans.all()][-1] == "team"


async def test_a_new_plan_does_not_overwrite_another(parley: Parley) -> None:
    with pytest.raises(PlanError, match="already"):
        await parley.plans.save("free", **TEAM, new=True)
    assert (await parley.plans.terms("free")).name == "Free"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": ""}, "short name"),
        ({"id": "Team Two"}, "short name"),
        ({"id": "a\x00"}, "short name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"monthly_tokens": -1}, "monthly tokens"),
        ({"monthly_tokens": 10**13}, "monthly tokens"),
        ({"requests_per_minute": 0}, "requests per minute"),
        ({"concurrent_streams": 0}, "at once"),
        ({"max_output_tokens": 0}, "longest answer"),
        ({"weight": 0}, "weight"),
        ({"position": -1}, "position"),
    ],
)
async def test_nonsense_is_refused_in_plain_words(wrong: dict[str, object], words: str, parley: Parley) -> None:
    with pytest.raises(PlanError, match=words):
        await parley.plans.save(**{"id": "team", **TEAM, **wrong})
    with pytest.raises(PlanError):
        await parley.plans.terms("team")


async def test_a_name_may_be_as_long_as_it_says(parley: Parley) -> None:
    for name in ("x", "x" * 60):
        await parley.plans.save("team", **{**TEAM, "name": name})
        assert (await parley.plans.terms("team")).name == name


async def test_a_plan_is_archived_only_when_nobody_is_on_it(parley: Parley) -> None:
    ada = await person(parley)
    await parley.plans.save("team", **TEAM)
    await parley.accounts.set_plan(ada.user_id, "team")
    assert await parley.plans.members("team") == 1
    with pytest.raises(PlanError, match="Somebody is on this plan"):
        await parley.plans.archive("team")
    await parley.accounts.set_plan(ada.user_id, "pro")
    await parley.plans.archive("team")
    assert "team" not in [plan.id for plan in await parley.plans.all()]
    assert (await parley.plans.all(archived=True))[0].id == "free"
    assert (await parley.plans.terms("team")).archived
    await parley.plans.save("team", **TEAM)
    assert not (await parley.plans.terms("team")).archived


async def test_the_default_plan_stays(parley: Parley) -> None:
    with pytest.raises(PlanError, match="New accounts"):
        await Plans(parley.db, default="pro").archive("pro")
    with pytest.raises(PlanError, match="no plan"):
        await parley.plans.archive("gold")


@pytest.mark.parametrize("largest", [False, True])
async def test_a_bound_is_itself_allowed(largest: bool, parley: Parley) -> None:
    bounds = {
        "monthly_tokens": (0, 10**12),
        "requests_per_minute": (1, 1_000_000),
        "concurrent_streams": (1, 10_000),
        "max_output_tokens": (1, 1_000_000),
        "weight": (1, 1_000),
        "position": (0, 10_000),
    }
    for field, allowed in bounds.items():
        bound = allowed[largest]
        assert getattr(await parley.plans.save("team", **{**TEAM, field: bound}), field) == bound
        beyond = bound + 1 if largest else bound - 1
        with pytest.raises(PlanError, match=f"between {allowed[0]:,} and {allowed[1]:,}"):
            await parley.plans.save("team", **{**TEAM, field: beyond})
