"""The dashboard's figures against the same figures worked out by hand or by Polars."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from ops_dashboard.queries import Files, Filters, Turns, UnreadableFiles, choices
from tests.ops_dashboard.conftest import Exported
from tests.telemetry.turns import DAY, HOUR, NOON, plausible, turn

LAST = date(2026, 11, 23)
FIRST = date(2026, 11, 21)
ALL = Filters(FIRST, LAST)


MANY = plausible(days=4, a_day=120)
NOTHING = {"ttft_ms": None, "tokens_per_s": None, "prompt_tokens": 0}
REFUSED = {"status": "refused", "model": "", "completion_tokens": 0, "cost_micro": 0, **NOTHING}
BY = {"refused_stage": "input", "refused_category": "secret", "refused_rule": "jwt"}
FEW = [
    turn(1, NOON, user_id="a", ttft_ms=100, tokens_per_s=10.0, cost_micro=500_000),
    turn(2, NOON + HOUR, user_id="a", ttft_ms=300, tokens_per_s=30.0, plan="pro", model="large"),
    turn(3, NOON - DAY, user_id="b", ttft_ms=200, tokens_per_s=20.0, source="api"),
    turn(4, NOON, user_id="c", status="failed", **NOTHING),
    turn(5, NOON, user_id="c", **REFUSED, **BY),
    turn(6, NOON - 10 * DAY, user_id="d"),
]
"""Six turns whose figures can be counted on the fingers."""


@pytest.fixture
def files(exported: Exported) -> Files:
    return Files(exported(MANY))


@pytest.fixture
def few(exported: Exported) -> Files:
    return Files(exported(FEW))


def test_totals_by_hand(few: Files) -> None:
    assert Turns(few, ALL).totals() == {
        "turns": 5,
        "people": 3,
        "failed": 1,
        "refused": 1,
        "prompt_tokens": 120,
        "completion_tokens": 480,
        "cached_tokens": 80,
        "cost": pytest.approx(0.50048),
        "ttft_p50": 200,
        "ttft_p95": pytest.approx(290),
        "speed_p50": 20,
    }


def test_tables_by_hand(few: Files) -> None:
    turns = Turns(few, ALL)
    assert turns.refusals().rows() == [("input", "secret", "jwt", 1)]
    assert turns.models().select("model", "turns", "people", "failed_share").rows() == [
        ("smollm2-135m-instruct", 3, 3, pytest.approx(1 / 3)),
        ("large", 1, 1, 0),
    ]
    assert turns.spend().select("plan", "model", "turns", "prompt_tokens").rows() == [
        ("free", "smollm2-135m-instruct", 3, 80),
        ("pro", "large", 1, 40),
    ]
    heaviest = turns.heaviest()
    assert heaviest["tokens"].to_list() == [320, 160, 120]
    assert heaviest["share"].to_list() == [pytest.approx(320 / 600), pytest.approx(160 / 600), pytest.approx(120 / 600)]
    assert heaviest["plan"][0] == "pro"
    assert turns.week().rows() == [(1, 12, 3), (1, 13, 1), (7, 12, 1)]


def test_time_is_cut_into_hours_or_days(few: Files) -> None:
    assert ALL.bucket == "hour" and Filters(date(2026, 11, 1), LAST).bucket == "day"
    by_hour = Turns(few, ALL).by_status()
    assert (datetime(2026, 11, 23, 13), "done", 1) in by_hour.rows()
    by_day = Turns(few, Filters(date(2026, 11, 10), LAST)).by_status()
    assert (datetime(2026, 11, 23), "done", 2) in by_day.rows()
    latency = Turns(few, ALL).latency()
    assert (datetime(2026, 11, 23, 12), "median", 0.1) in latency.rows()
    assert latency["measure"].unique().sort().to_list() == ["95 of 100", "median"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(LAST, LAST), 4),
        (Filters(FIRST, FIRST), 0),
        (Filters(date(2026, 11, 13), LAST), 6),
        (Filters(FIRST, LAST, plans=("pro",)), 1),
        (Filters(FIRST, LAST, models=("large", "other")), 1),
        (Filters(FIRST, LAST, sources=("api",)), 1),
        (Filters(FIRST, LAST, plans=("pro",), sources=("api",)), 0),
        (Filters(FIRST, LAST, plans=("'; DROP TABLE turns; --",)), 0),
    ],
)
def test_filters(few: Files, filters: Filters, expected: int) -> None:
    assert Turns(few, filters).totals()["turns"] == expected


def test_the_period_before_is_as_long() -> None:
    assert Filters(FIRST, LAST, ("pro",)).before == Filters(date(2026, 11, 18), date(2026, 11, 20), ("pro",))


def test_what_can_be_chosen(few: Files) -> None:
    assert choices(few, FIRST, LAST) == {
        "plan": ["free", "pro"],
        "model": ["large", "smollm2-135m-instruct"],
        "source": ["api", "chat"],
    }


def test_agrees_with_polars(files: Files) -> None:
    table = pl.read_parquet(files.directory / "turns/**/*.parquet").filter(pl.col("day") >= "2026-11-21")
    turns = Turns(files, ALL)
    totals = turns.totals()
    assert totals["turns"] == table.height > 100
    assert totals["people"] == table["user_hash"].n_unique()
    assert totals["ttft_p95"] == pytest.approx(table["ttft_ms"].quantile(0.95, "linear"))
    assert totals["cost"] == pytest.approx(table["cost_micro"].sum() / 1e6)
    for by in ("plan", "model"):
        tokens = turns.tokens(by).group_by(by).agg(pl.col("tokens").sum()).sort(by)
        expected = (
            table.filter(pl.col(by) != "")
            .group_by(by)
            .agg(tokens=(pl.col("prompt_tokens") + pl.col("completion_tokens")).sum())
            .sort(by)
        )
        assert tokens.rows() == expected.rows()


def test_no_files(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.days() == [] and files.exported_at() is None and files.stamp() == (0, 0)
    totals = Turns(files, ALL).totals()
    assert totals["turns"] == 0 and totals["ttft_p50"] is None
    assert Turns(files, ALL).spend().is_empty()


def test_files_of_an_older_version(few: Files) -> None:
    for file in few.directory.rglob("*.parquet"):
        pl.read_parquet(file).drop("route", "cached_tokens").write_parquet(file)
    assert Turns(few, ALL).totals()["cached_tokens"] == 0


def test_a_damaged_file_is_named(few: Files) -> None:
    damaged = few.directory / "turns" / "day=2026-11-23" / "turns-12.parquet"
    damaged.write_bytes(b"not parquet")
    with pytest.raises(UnreadableFiles, match=r"turns-12\.parquet"):
        Turns(few, ALL)


def test_a_draft_of_an_export_is_no_file(few: Files) -> None:
    (few.directory / "turns" / "day=2026-11-23" / ".turns-12.parquet.draft").write_bytes(b"half")
    assert Turns(few, ALL).totals()["turns"] == 5


def test_a_new_export_shows(few: Files) -> None:
    before = few.stamp()
    assert few.exported_at() is not None
    assert abs((datetime.now(UTC) - few.exported_at()).total_seconds()) < 60  # type: ignore[operator]
    (few.directory / "turns" / "day=2026-11-23" / "turns-23.parquet").write_bytes(b"")
    assert few.stamp() != before
