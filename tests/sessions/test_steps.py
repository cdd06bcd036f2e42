"""Steps: begun as often as it takes, finished once, by the latest fence alone."""

import asyncio
from dataclasses import replace

import pytest

from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.sessions.generations import NOT_OWNER, GenerationRow, Generations, Outcome
from chat_app.sessions.steps import FINISHED, Step, Steps
from tests.sessions.rows import lost

TOOL = Step("g", 2, "tool", name="calculator", key="k1", input=17, started_at=5)
DONE = replace(TOOL, status="done", output="42", finished_at=9)


@pytest.fixture
def steps(db: Database) -> Steps:
    return Steps(db)


@pytest.fixture
async def row(db: Database) -> GenerationRow:
    row = GenerationRow("g", "t", "ada", "free", "2026-11", 1, owner="ann")
    await db.batch(Generations(db).create(row))
    return row


async def moved(db: Database, row: GenerationRow, statement: Statement, *, lost: bool = False) -> None:
    """The statement with the one that looks at the fence, as turns write them; `lost`: it has to refuse both."""
    batch = db.batch(Generations(db).advance(row, 2, 0, 0), statement)
    if not lost:
        await batch
        return
    with pytest.raises(Unmet) as unmet:
        await batch
    assert unmet.value.name == NOT_OWNER


async def claimed(db: Database) -> GenerationRow:
    [row] = await Generations(db).claim("ann", "bob", 1, 1)
    return row


async def test_steps_come_back_whole_and_in_order(db: Database, steps: Steps, row: GenerationRow) -> None:
    first = Step("g", 1, "model", model="qwen", input=3, prompt_micro=11, completion_micro=12, started_at=4)
    for step in (replace(TOOL, seq=10), first, TOOL):
        await db.batch(steps.begin(row, step))
    assert await steps.of("g") == [first, TOOL, replace(TOOL, seq=10)]
    ended = replace(
        first, status="stopped", output="ü", prompt_tokens=1, completion_tokens=2, cached_tokens=3, cost_micro=4,
        model="other", prompt_micro=21, completion_micro=22, finished_at=8,
    )  # fmt: skip
    await db.batch(steps.finish(row, ended))
    assert await steps.of("g") == [ended, TOOL, replace(TOOL, seq=10)]
    assert await steps.of("unknown") == []


async def test_a_step_begins_with_its_generation(db: Database, steps: Steps) -> None:
    row = GenerationRow("g", "t", "ada", "free", "2026-11", 1, owner="ann")
    await db.batch(Generations(db).create(row), steps.begin(row, TOOL))
    assert await steps.of("g") == [TOOL]


async def test_a_step_that_runs_is_begun_again_under_its_first_key(
    db: Database, steps: Steps, row: GenerationRow
) -> None:
    await db.batch(steps.begin(row, TOOL))
    await db.batch(steps.begin(await claimed(db), replace(TOOL, key="k2", input=20, model="m", started_at=50)))
    assert await steps.of("g") == [replace(TOOL, input=20, model="m")]  # the key and the start are the first ones


@pytest.mark.parametrize("status", sorted(FINISHED))
async def test_a_finished_step_is_never_begun_or_finished_again(
    db: Database, steps: Steps, row: GenerationRow, status: str
) -> None:
    ended = replace(DONE, status=status)
    await db.batch(steps.begin(row, TOOL))
    await db.batch(steps.finish(row, ended))
    again = (replace(DONE, output="43"), replace(ended, output="44"))
    await lost(db, steps.begin(row, TOOL), *(steps.finish(row, step) for step in again))
    mine = await claimed(db)
    await lost(db, steps.begin(mine, TOOL), *(steps.finish(mine, step) for step in again))
    assert await steps.of("g") == [ended]


async def test_a_step_that_never_began_is_not_finished(db: Database, steps: Steps, row: GenerationRow) -> None:
    await db.batch(steps.begin(row, replace(TOOL, seq=1)))
    await lost(db, steps.finish(row, DONE))
    assert await steps.of("g") == [replace(TOOL, seq=1)]


async def test_a_stale_fence_writes_no_step(db: Database, steps: Steps, row: GenerationRow) -> None:
    await db.batch(steps.begin(row, TOOL))
    mine = await claimed(db)
    for writer in (row, replace(mine, fence=mine.fence + 1)):
        for step in (replace(TOOL, input=99), replace(TOOL, seq=3)):
            await moved(db, writer, steps.begin(writer, step), lost=True)
        await moved(db, writer, steps.finish(writer, DONE), lost=True)
    assert await steps.of("g") == [TOOL]
    await moved(db, mine, steps.finish(mine, DONE))
    assert await steps.of("g") == [DONE]


async def test_a_generation_that_has_ended_takes_no_steps(db: Database, steps: Steps, row: GenerationRow) -> None:
    await db.batch(steps.begin(row, TOOL))
    await db.batch(*Generations(db).finish(row, Outcome("stopped")))
    for statement in (steps.begin(row, TOOL), steps.begin(row, replace(TOOL, seq=3)), steps.finish(row, DONE)):
        await moved(db, row, statement, lost=True)
    assert await steps.of("g") == [TOOL]


async def test_a_step_of_another_generation_is_out_of_reach(db: Database, steps: Steps, row: GenerationRow) -> None:
    other = replace(row, id="other")
    await db.batch(Generations(db).create(other), steps.begin(other, replace(TOOL, generation_id="other")))
    for step in (replace(TOOL, generation_id="other"), replace(DONE, generation_id="other")):
        with pytest.raises(ValueError):
            steps.begin(row, step)
        with pytest.raises(ValueError):
            steps.finish(row, step)
    await db.batch(steps.begin(row, TOOL), steps.finish(row, DONE))
    assert await steps.of("other") == [replace(TOOL, generation_id="other")]


def test_a_step_begins_running_and_ends_finished(row: GenerationRow, steps: Steps) -> None:
    with pytest.raises(ValueError):
        steps.begin(row, DONE)
    for status in ("running", "", "queued"):
        with pytest.raises(ValueError):
            steps.finish(row, replace(DONE, status=status))
    assert TOOL.finished is False and DONE.finished is True


async def test_of_many_ends_at_once_one_is_written(db: Database, steps: Steps, row: GenerationRow) -> None:
    await db.batch(steps.begin(row, TOOL))

    async def finish(n: int) -> bool:
        try:
            await db.batch(steps.finish(row, replace(DONE, output=str(n))))
        except Unmet:
            return False
        return True

    done = await asyncio.gather(*(finish(n) for n in range(10)))
    assert sum(done) == 1
    assert (await steps.of("g"))[0].output == str(done.index(True))


async def test_a_step_that_meets_a_claim_is_written_before_it_or_not_at_all(
    db: Database, steps: Steps, row: GenerationRow
) -> None:
    if db.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    await db.batch(steps.begin(row, TOOL))
    claiming = asyncio.create_task(
        db.batch(
            Statement("UPDATE generation SET owner = 'bob', fence = fence + 1 WHERE id = 'g'"),
            Statement("SELECT pg_sleep(0.5)"),
        )
    )
    await asyncio.sleep(0.2)
    await asyncio.gather(
        moved(db, row, steps.finish(row, DONE), lost=True),
        moved(db, row, steps.begin(row, replace(TOOL, input=99)), lost=True),
        moved(db, row, steps.begin(row, replace(TOOL, seq=3)), lost=True),
    )
    await claiming
    assert await steps.of("g") == [TOOL]
