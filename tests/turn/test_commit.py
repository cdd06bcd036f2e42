"""A transaction that has to happen: whatever its database does, it takes place once, or says that it did not."""

from typing import Any

import pytest

from chat_app.data.db.base import Conflict, DatabaseUnavailable, OutcomeUnknown, Statement, Unmet
from chat_app.data.log.base import StaleOwner
from chat_app.sessions.generations import NOT_OWNER
from chat_app.turn.commit import commit
from chat_app.wiring import Parley

MADE = Statement("INSERT INTO tenant (id, name, created_at) VALUES ('made', 'Made', 0) RETURNING id")


class Troubled:
    """A real database whose next batches go as they are told: "away", "lost before" or "lost behind" their commit."""

    def __init__(self, parley: Parley, *ways: str) -> None:
        self._db = parley.db
        self._ways = list(ways)
        self.batches = 0
        self.asked: list[bool] = []
        """What was said each time that somebody asked what became of a batch."""

    async def batch(self, *statements: Statement) -> Any:
        self.batches += 1
        way = self._ways.pop(0) if self._ways else ""
        if way == "away":
            raise DatabaseUnavailable("it is away")
        if way == "lost before":
            raise OutcomeUnknown("it was lost before anything was written")
        rows = await self._db.batch(*statements)
        if way == "lost behind":
            raise OutcomeUnknown("it was lost when all was written")
        return rows

    async def was_committed(self) -> bool:
        self.asked.append(await self.made() > 0)
        return self.asked[-1]

    async def made(self) -> int:
        return len(await self._db.query("SELECT id FROM tenant WHERE id = 'made'"))

    async def commit(self, *statements: Statement, patience_s: float | None = None) -> Any:
        return await commit(self, statements or (MADE,), self.was_committed, patience_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ways", "known"),
    [
        ([], True),
        (["away"] * 3, True),
        (["lost before"], True),
        (["lost before", "away", "lost before"], True),
        (["lost behind"], False),
        (["lost behind", "away"], False),
        (["away", "lost behind"], False),
        (["lost before", "away", "lost behind"], False),
    ],
)
async def test_it_takes_place_once_whatever_comes_between(parley: Parley, ways: list[str], known: bool) -> None:
    db = Troubled(parley, *ways)
    rows = await db.commit()
    assert (rows is not None) == known
    if known:
        assert [row["id"] for row in rows[0]] == ["made"]
    assert (db.batches, db.asked) == (len(ways) + 1, [] if known else [True])
    assert await db.made() == 1


async def test_a_database_that_is_away_when_it_is_asked_is_asked_again(parley: Parley) -> None:
    db = Troubled(parley, "lost behind")
    ask, away = db.was_committed, [DatabaseUnavailable("it is away")]

    async def was_committed() -> bool:
        if away:
            raise away.pop()
        return await ask()

    assert await commit(db, [MADE], was_committed) is None  # type: ignore[arg-type]
    assert (db.batches, await db.made()) == (3, 1)


@pytest.mark.parametrize("patience_s", [0, 5.0])
async def test_who_does_not_wait_is_told_at_once_that_it_is_away(parley: Parley, patience_s: float) -> None:
    db = Troubled(parley, "away")
    with pytest.raises(DatabaseUnavailable) as error:
        await db.commit(patience_s=patience_s)
    assert not isinstance(error.value, OutcomeUnknown), "nothing was written, and that is known"
    assert (db.batches, await db.made()) == (1, 0)


async def test_who_does_not_wait_looks_once_at_what_became_of_it(parley: Parley) -> None:
    db = Troubled(parley, "lost before", *["away"] * 1_000)
    with pytest.raises(OutcomeUnknown, match="before anything"):
        await db.commit(patience_s=0)
    assert db.batches == 2
    db = Troubled(parley, "lost behind")
    assert await db.commit(patience_s=0) is None
    assert (db.batches, await db.made()) == (2, 1)


async def test_who_has_patience_looks_again_and_again_and_then_says_that_it_is_unknown(parley: Parley) -> None:
    db = Troubled(parley, "lost behind", *["away"] * 1_000)
    with pytest.raises(OutcomeUnknown, match="all was written"):
        await db.commit(patience_s=0.5)
    assert db.batches > 2
    db = Troubled(parley, "lost before", *["lost behind"] * 1_000)
    with pytest.raises(Conflict):
        await commit(db, [MADE], _never, 0.5)  # type: ignore[arg-type]


async def _never() -> bool:
    return False


@pytest.mark.parametrize("ways", [[], ["away"], ["away", "away"]])
async def test_what_is_refused_and_was_never_in_doubt_asks_nobody(parley: Parley, ways: list[str]) -> None:
    await parley.db.batch(MADE)
    db = Troubled(parley, *ways)
    with pytest.raises(Conflict):
        await db.commit()
    assert (db.batches, db.asked) == (len(ways) + 1, [])


@pytest.mark.parametrize(("must", "error"), [("somebody", Unmet), (NOT_OWNER, StaleOwner)])
@pytest.mark.parametrize(("ways", "asked"), [([], []), (["away"], []), (["lost before"], [False])])
async def test_a_condition_that_is_unmet_is_raised_by_its_name(
    parley: Parley, must: str, error: type[Exception], ways: list[str], asked: list[bool]
) -> None:
    db = Troubled(parley, *ways)
    unmet = Statement("UPDATE tenant SET name = 'x' WHERE id = 'nobody'", must=must)
    with pytest.raises(error) as raised:
        await db.commit(MADE, unmet)
    assert must in (str(raised.value), NOT_OWNER)
    assert (db.batches, db.asked, await db.made()) == (len(ways) + 1, asked, 0)
