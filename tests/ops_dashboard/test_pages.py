"""The pages as staff see them: figures, filters, empty states, and trouble in plain words."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from chat_app.data.ids import now_ms
from ops_dashboard import controls, drawing
from tests.ops_dashboard.conftest import Exported, OpenDashboard
from tests.ops_dashboard.test_door import run, sign_in
from tests.telemetry.turns import DAY, plausible, turn, write_exports

TURNS = plausible(days=10, a_day=60, end_ms=now_ms())


@pytest.fixture
def exports(exported: Exported) -> Path:
    return exported(TURNS)


def cards(at: AppTest) -> dict[str, str]:
    return {card.label: card.value for card in at.metric}


async def test_nothing_exported_yet(dashboard: OpenDashboard) -> None:
    at = await sign_in(dashboard(), "root@example.org")
    assert at.info[0].value.startswith("No chats have been exported yet.")
    assert "python -m chat_app export" in at.info[0].value
    assert not at.metric


async def test_traffic(dashboard: OpenDashboard, exports: Path) -> None:
    at = await sign_in(dashboard(), "root@example.org")
    table = pl.read_parquet(exports / "turns/**/*.parquet")
    since = (datetime.now(UTC).date() - timedelta(days=6)).isoformat()
    week = table.filter(pl.col("day") >= since)
    assert cards(at)["Turns"] == f"{week.height:,}"
    assert cards(at)["People"] == str(week["user_hash"].n_unique())
    assert cards(at)["First token"] == drawing.seconds(week["ttft_ms"].quantile(0.5, "linear"))
    assert len(at.get("vega_lite_chart")) == 3
    models = next(frame.value for frame in at.dataframe if "ttft_p50" in frame.value.columns)
    assert models["turns"].sum() == week.filter(pl.col("model") != "").height
    assert any("just now" in caption.value or "ago" in caption.value for caption in at.caption)


async def test_spend(dashboard: OpenDashboard, exports: Path) -> None:
    at = await sign_in(dashboard(), "root@example.org")
    at.switch_page("views/spend.py")
    await run(at)
    assert at.title[0].value == "Usage and cost"
    table = pl.read_parquet(exports / "turns/**/*.parquet")
    at.segmented_control("period").set_value("30 d")
    await run(at)
    tokens = table["prompt_tokens"].sum() + table["completion_tokens"].sum()
    assert cards(at)["Tokens"] == drawing.number(tokens)
    assert cards(at)["Cost"] == drawing.money(table["cost_micro"].sum() / 1e6)
    spend = next(frame.value for frame in at.dataframe if "plan" in frame.value.columns)
    assert spend["prompt_tokens"].sum() == table["prompt_tokens"].sum()
    assert len(at.get("vega_lite_chart")) == 3
    assert len(at.get("download_button")) == 2


async def test_filters_hold_on_both_pages(dashboard: OpenDashboard, exports: Path) -> None:
    at = await sign_in(dashboard(), "root@example.org")
    everything = int(cards(at)["Turns"].replace(",", ""))
    at.multiselect("plans").select("enterprise")
    await run(at)
    enterprise = int(cards(at)["Turns"].replace(",", ""))
    assert 0 < enterprise < everything
    at.switch_page("views/spend.py")
    await run(at)
    assert at.multiselect("plans").value == ["enterprise"]
    spend = next(frame.value for frame in at.dataframe if "prompt_tokens" in frame.value.columns)
    assert set(spend["plan"]) == {"enterprise"}


async def test_no_turn_matches(dashboard: OpenDashboard, tmp_path: Path) -> None:
    await write_exports(tmp_path / "ops", [turn(1, at_ms=now_ms() - 20 * DAY)])
    at = await sign_in(dashboard(), "root@example.org")
    assert "No turn matches" in at.info[0].value and not at.metric


async def test_one_turn_without_any_measurement(dashboard: OpenDashboard, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("queue_ms", "ttft_ms", "total_ms", "tokens_per_s"))
    counts = dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micro"), 0)
    lone = turn(1, now_ms(), status="failed", finish="failed", **nothing, **counts)
    await write_exports(tmp_path / "ops", [lone])
    at = await sign_in(dashboard(), "root@example.org")
    assert cards(at)["First token"] == "–" and cards(at)["Failed"] == "100 %"
    at.switch_page("views/spend.py")
    await run(at)
    assert cards(at)["Tokens"] == "0"
    assert any("No model has a price" in caption.value for caption in at.caption)


async def test_a_damaged_file_is_reported_in_plain_words(dashboard: OpenDashboard, exports: Path) -> None:
    newest = max(exports.rglob("*.parquet"))
    newest.write_bytes(b"not parquet")
    at = await sign_in(dashboard(), "root@example.org")
    assert "cannot be read" in at.error[0].value and newest.name in at.error[0].value
    assert not at.metric


async def test_refreshing_shows_what_was_exported_meanwhile(dashboard: OpenDashboard, tmp_path: Path) -> None:
    await write_exports(tmp_path / "ops", [turn(1, now_ms())])
    at = await sign_in(dashboard(), "root@example.org")
    assert cards(at)["Turns"] == "1"
    await write_exports(tmp_path / "ops", [turn(2, now_ms())])
    at.toggle("auto_refresh").set_value(True)
    await run(at)
    assert cards(at)["Turns"] == "2"


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(seconds=70), "1 minute ago"),
        (timedelta(minutes=5), "5 minutes ago"),
        (timedelta(hours=3), "3 hours ago"),
        (timedelta(days=2, hours=1), "2 days ago"),
        (timedelta(seconds=-30), "just now"),
    ],
)
def test_ages_in_words(back: timedelta, words: str) -> None:
    assert controls.ago(datetime.now(UTC) - back) == words


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (drawing.number(None), "–"),
        (drawing.number(9_999), "9,999"),
        (drawing.number(12_345), "12.3 k"),
        (drawing.number(4_560_000), "4.56 M"),
        (drawing.number(999_499), "999 k"),
        (drawing.number(999_999), "1 M"),
        (drawing.number(2.5e12), "2,500 G"),
        (drawing.seconds(1_234_567), "1,235 s"),
        (drawing.seconds(None), "–"),
        (drawing.seconds(150.4), "150 ms"),
        (drawing.seconds(1_500), "1.5 s"),
        (drawing.money(0), "0.00"),
        (drawing.money(0.000526), "0.000526"),
        (drawing.money(1_234.5), "1,234.50"),
        (drawing.share(1, 0), "–"),
        (drawing.share(1, 8), "12.5 %"),
        (drawing.change(110, 100), "+10 %"),
        (drawing.change(100, 100), None),
        (drawing.change(1, 0), None),
    ],
)
def test_figures_in_few_characters(shown: str | None, words: str | None) -> None:
    assert shown == words
