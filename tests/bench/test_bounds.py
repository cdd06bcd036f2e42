"""The bounds of benchmarks: what is missed is said, and the run fails; what was not measured is no miss."""

import json
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import pytest

from bench import inference, page, startup, turn
from bench.bounds import INFERENCE, TURN, Bound, at_least, at_most, missed
from bench.report import conclude

BOUNDS = {"added_ms": at_most(4, " ms"), "ratio": at_least(0.95)}


@pytest.mark.parametrize(
    ("bound", "kept", "missed"),
    [(at_most(4), [-1.0, 3.9, 4], [4.001, float("nan")]), (at_least(0.95), [0.95, 7], [0.9499, float("nan")])],
)
def test_a_bound_holds_at_its_limit_and_not_beyond(bound: Bound, kept: list[float], missed: list[float]) -> None:
    assert all(map(bound.holds, kept))
    assert not any(map(bound.holds, missed))


def test_a_bound_in_words() -> None:
    assert [str(bound) for bound in (at_most(4, " ms"), at_least(500, "/s"), at_least(0.95))] == [
        "<= 4 ms",
        ">= 500/s",
        ">= 0.95",
    ]


def test_what_is_missed_is_named_with_its_value_and_its_bound() -> None:
    assert missed({"added_ms": 4.25, "ratio": 0.9}, BOUNDS) == [
        "added_ms is 4.25, not <= 4 ms",
        "ratio is 0.9, not >= 0.95",
    ]


def test_what_was_not_measured_is_no_miss() -> None:
    assert missed({"added_ms": None, "other": 1e9}, BOUNDS) == []


@pytest.mark.parametrize(("added_ms", "status"), [(4.0, 0), (4.1, 1)])
def test_a_run_ends_with_1_if_it_misses_a_bound(
    added_ms: float, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conclude("Title", [("added", "shown", "bound")], {"added_ms": added_ms}, BOUNDS) == status
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == {"added_ms": added_ms}
    assert err == ("Missed: added_ms is 4.1, not <= 4 ms\n" if status else "")


async def nothing(*_: object) -> tuple[list[Any], dict[str, float]]:
    return [("what", "measured", "limit")], {}


@pytest.mark.parametrize(("ratio", "status"), [(0.95, 0), (0.94, 1)])
async def test_the_status_of_bench_turn(ratio: float, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def over_bare(_: object) -> tuple[list[Any], dict[str, float]]:
        return [("tokens/s", "measured", str(TURN["throughput_ratio_1"]))], {"throughput_ratio_1": ratio}

    def browser() -> AbstractAsyncContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(turn, "product_over_bare", over_bare)
    monkeypatch.setattr(turn, "Browser", browser)
    monkeypatch.setattr(page, "measure", nothing)
    monkeypatch.setattr(startup, "start", nothing)
    assert await turn.main(["--skip-setup"]) == status


@pytest.mark.parametrize(("jain", "status"), [(0.95, 0), (0.94, 1)])
async def test_the_status_of_bench_inference(jain: float, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fair(_: object) -> tuple[list[Any], dict[str, float]]:
        return [("index", "measured", str(INFERENCE["jain"]))], {"jain": jain}

    monkeypatch.setattr(inference, "PARTS", {"fair": fair})
    assert await inference.main([]) == status
