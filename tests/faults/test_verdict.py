"""The verdict of `bench.faults` finds what must not be: turns that went well, then one thing of them falsified.

The turns are real, with one Parley and no fault; each test has a copy of their files and of what the clients saw.
"""

import asyncio
import copy
import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench.faults import __main__ as program
from bench.faults import column as columns
from bench.faults import verdict as judging
from bench.faults.bounds import shortfalls
from bench.faults.column import stage
from bench.faults.replica import Life, Replica, Stores
from bench.faults.schedule import CALL, MOMENTS, Plan
from bench.faults.trouble import EngineHost
from bench.faults.verdict import WRONGS, Verdict
from bench.faults.witness import Turn, Witness, now
from chat_app.data.log.entries import Entry
from chat_app.data.migrations import migrate
from chat_app.wiring import build
from tests.servers import free_port


@dataclass(slots=True)
class Seen:
    """What is judged."""

    home: Path
    turns: list[Turn]
    witness: Witness
    moments: set[str]
    """That the turns came to."""

    @property
    def steps(self) -> Turn:
        """The turn of two model steps, begun in the page."""
        return self.turns[0]

    @property
    def drifting(self) -> Turn:
        """A program's turn of one step, whose engine goes on differently each time."""
        return self.turns[1]

    def write(self, sql: str, *values: object, file: str = "parley.db") -> None:
        with closing(sqlite3.connect(self.home / file)) as database, database:
            assert database.execute(sql, values).rowcount, "nothing was falsified"

    def rewrite(self, turn: Turn, change: Callable[[str], str]) -> None:
        """Change what is stored of an answer, and what its viewers saw."""
        with closing(sqlite3.connect(self.home / "log.db")) as database:
            rows = database.execute("SELECT data FROM piece WHERE generation = ? ORDER BY start", [turn.generation_id])
            log = b"".join(data for (data,) in rows).decode()
        changed = change(log)
        assert changed != log
        self.write("DELETE FROM piece WHERE generation = ?", turn.generation_id, file="log.db")
        self.write("INSERT INTO piece VALUES (?, 0, ?)", turn.generation_id, changed.encode(), file="log.db")
        kept = "UPDATE generation SET log_length = ? WHERE id = ?"
        self.write(kept, len(changed), turn.generation_id)
        if turn.plan.source == "chat":
            self.write("UPDATE message SET log = ? WHERE log <> ''", changed)
        for view in turn.views:
            view.entries = [replace(one, text=change(one.text)) if one.kind == "text" else one for one in view.entries]


def plan(number: int, source: str, drift: bool, **more: Any) -> Plan:
    directive = {"tokens": 30, "rate": 0, "seed": number, "drift": drift, **more}
    return Plan(number, "append", "log", "reset", 1.0, 1, directive, source, False)  # type: ignore[arg-type]


PLANS = (
    plan(1, "chat", False, calls=[CALL], then={"tokens": 25, "rate": 0, "seed": 9, "drift": False}),
    plan(2, "api", True),
)


async def judged(seen: Seen, limit: int = 3) -> Verdict:
    parley = build(Stores(seen.home).settings("http://127.0.0.1:1"))
    parts = (parley.db, parley.log, parley.leases, parley.limits)
    try:
        for part in parts:
            await part.start()
        return await judging.judged(parley, seen.turns, seen.witness, limit)
    finally:
        for part in reversed(parts):
            await part.close()
        await parley.client.close()


async def really(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    moments = set[str]()

    async def reach(_: Replica, __: Life, moment: str) -> None:
        moments.add(moment)

    monkeypatch.setattr(Replica, "_reach", reach)
    engine = EngineHost(folder, free_port())
    await engine.start()
    try:
        async with stage(Stores(home), engine, "verdict") as on:
            on.clients._people = on.clients._people[:1]
            turns = await asyncio.gather(*(on.clients.run(plan) for plan in PLANS))
            await on.judge(turns)
            return Seen(home, list(turns), on.witness, moments)
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("verdict")
    home = folder / "home"
    home.mkdir()
    migrate(Stores(home).settings("http://127.0.0.1:1"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        return asyncio.run(really(home, folder, monkeypatch))


@pytest.fixture
def seen(original: Seen, tmp_path: Path) -> Seen:
    home = Path(shutil.copytree(original.home, tmp_path / "home"))
    turns, witness = copy.deepcopy((original.turns, original.witness))
    return Seen(home, turns, witness, set())


def test_a_turn_of_two_steps_comes_by_at_every_moment(original: Seen) -> None:
    assert original.moments == set(MOMENTS)


async def test_turns_that_went_well(seen: Seen) -> None:
    verdict = await judged(seen)
    assert (verdict.turns, verdict.ok, verdict.found, +verdict.wrongs) == (2, 2, [], Counter())


def without_a_word(text: str) -> str:
    return re.sub(r"(\w+ )(\w+ )(\w+ )", r"\1\3", text, count=1)


def with_a_word_twice(text: str) -> str:
    return re.sub(r"(\w+ )(\w+ )(\w+ )", r"\1\2\2\3", text, count=1)


def with_other_words(text: str) -> str:
    """As many words, of which the last ones come from elsewhere."""
    return re.sub(r"\w+ \w+ \w+ (\w+)(?=\W*$|\W*\x1e)", r"seam seam seam \1", text, count=1)


def only_seen(change: Callable[[str], str]) -> Callable[[Seen], None]:
    def falsify(seen: Seen) -> None:
        view = seen.steps.views[1]
        at = next(at for at, one in enumerate(view.entries) if len(one.text.split()) > 3)
        text = change(view.entries[at].text)
        assert text != view.entries[at].text
        view.entries[at] = Entry("text", text)

    return falsify


def no_settlement(seen: Seen) -> None:
    seen.write("DELETE FROM ledger WHERE kind = 'settle' AND generation_id = ?", seen.steps.generation_id)


def a_hold_that_stays(seen: Seen) -> None:
    seen.write("UPDATE quota SET held = held + 5")


def a_row_that_still_holds(seen: Seen) -> None:
    seen.write("UPDATE generation SET held_tokens = 5 WHERE id = ?", seen.drifting.generation_id)


def asked_behind_its_seal(seen: Seen) -> None:
    asked = seen.witness.asked[seen.drifting.generation_id]
    asked.append(replace(asked[0], at_ms=now()))


def refused_but_begun(seen: Seen) -> None:
    seen.drifting.refused = "storage_unavailable"


def never_ended(seen: Seen) -> None:
    seen.write("UPDATE generation SET status = 'streaming' WHERE id = ?", seen.drifting.generation_id)


def no_end_for_its_viewers(seen: Seen) -> None:
    seen.drifting.late = True


def refused_by_a_defect(seen: Seen) -> None:
    seen.drifting.refused, seen.drifting.unknown = "TypeError('defect')", True


def a_viewer_met_a_defect(seen: Seen) -> None:
    seen.steps.views[1].errors.append("AttributeError('defect')")


FALSIFIED: dict[str, tuple[str, Callable[[Seen], None]]] = {
    "a word that no viewer saw": ("tokens_lost", lambda seen: seen.rewrite(seen.steps, without_a_word)),
    "a word that one viewer missed": ("tokens_lost", only_seen(without_a_word)),
    "a word that is stored twice": ("tokens_doubled", lambda seen: seen.rewrite(seen.steps, with_a_word_twice)),
    "a word that one viewer saw twice": ("tokens_doubled", only_seen(with_a_word_twice)),
    "a text of two answers": ("spliced", lambda seen: seen.rewrite(seen.drifting, with_other_words)),
    "no settlement": ("charged_wrong", no_settlement),
    "a hold that stays": ("charged_wrong", a_hold_that_stays),
    "a row that still holds": ("charged_wrong", a_row_that_still_holds),
    "asked behind its seal": ("asked_twice", asked_behind_its_seal),
    "refused, but begun": ("charged_wrong", refused_but_begun),
    "never ended": ("stuck", never_ended),
    "no end for its viewers": ("stuck", no_end_for_its_viewers),
    "refused by a defect": ("unexpected_errors", refused_by_a_defect),
    "a viewer met a defect": ("unexpected_errors", a_viewer_met_a_defect),
}


@pytest.mark.parametrize("what", FALSIFIED)
async def test_what_is_falsified_is_found(seen: Seen, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "SETTLED_S", 0.3)
    kind, falsify = FALSIFIED[what]
    falsify(seen)
    verdict = await judged(seen)
    assert verdict.wrongs[kind], verdict.found
    assert verdict.found


@pytest.mark.parametrize("falsify", [refused_by_a_defect, a_viewer_met_a_defect])
async def test_a_turn_that_met_a_defect_is_not_ok(seen: Seen, falsify: Callable[[Seen], None]) -> None:
    falsify(seen)
    assert (await judged(seen)).ok == 1


async def test_more_at_once_than_allowed_is_found(seen: Seen) -> None:
    verdict = await judged(seen, limit=1)
    assert dict(verdict.wrongs) == {"over_limit": 1}


# What a run must at least show ---------------------------------------------------------------------------------------


def well(**changed: Any) -> Verdict:
    return Verdict(**{"turns": 300, "ok": 300, "planned": 300, "fired": Counter({"log reset": 300}), **changed})


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (well(fired=Counter()), "Only 0 of 300 planned faults came about."),
        (well(fired=Counter({"log reset": 170})), "Only 170 of 300 planned faults came about."),
        (well(refused=300), "300 of 300 turns were refused."),
        (well(refused=61), "61 of 300 turns were refused."),
        (well(ok=299), "Only 299 of 300 turns ended as they should."),
        (well(never=["log reset at seal"]), "This fault never came about: log reset at seal."),
    ],
)
def test_a_run_that_proves_too_little_fails(verdict: Verdict, said: str) -> None:
    assert shortfalls([verdict], 300) == [said]


def test_a_run_that_is_enough() -> None:
    assert shortfalls([well(refused=28, fired=Counter({"log reset": 240}))], 300) == []
    assert shortfalls([well(never=["log reset at seal"])], 24) == []


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (well(), 0),
        (well(found=["turn 3: a viewer was told done, the row says failed"]), 1),
        (well(wrongs=Counter(unexpected_errors=1)), 1),
        (well(wrongs=Counter(tokens_lost=1)), 1),
        (well(ok=299), 1),
    ],
)
async def test_the_exit_status_follows_what_was_found(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, status: int
) -> None:
    async def run(*_: object) -> Verdict:
        return verdict

    monkeypatch.setattr(columns, "run", run)
    monkeypatch.setattr(program, "quiet", lambda: None)
    assert await program.main(["--turns", "300", "--seed", "9", "--column", "embedded"]) == status


async def test_a_run_in_which_nothing_fires_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def never(*_: object) -> None: ...

    monkeypatch.setattr(Replica, "_reach", never)
    monkeypatch.setattr(program, "quiet", lambda: None)
    assert await program.main(["--turns", "2", "--seed", "9", "--column", "embedded"]) == 1
    out, err = capsys.readouterr()
    assert "Only 0 of 8 planned faults came about." in err
    figures = json.loads(out.splitlines()[-1])
    assert (figures["faults_planned"], figures["faults_fired"]) == (8, 0)
    assert all(figures[kind] == 0 for kind in WRONGS)
