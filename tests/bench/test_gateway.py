"""`bench.gateway` over loads of known length: what it reports of them, and that its status follows its bounds."""

import json
from typing import Any

import pytest

from bench import gateway
from bench.arrivals import Flow
from bench.bounds import GATEWAY
from bench.foreign import ROUNDS
from bench.gateway import Bench, Figures, main
from bench.loads import Pace
from bench.peer_litellm import PeerMissing
from bench.sides import Side

FAST = {"direct": 1e-3, "relay": 1.2e-3, "parley": 4e-3, "fleet": 4e-3, "litellm": 20e-3}
"""Seconds of an unstreamed call. Each round with a tool takes another 3 ms."""
ALL = ["--quick"]


class Loads:
    """Loads that take as long as is said here."""

    def __init__(self) -> None:
        self.delays = [0.05]
        self.cpu_s = 50e-6
        self.rates = {"parley": 700.0, "fleet": 400.0, "litellm": 100.0, "relay": 9e3}

    async def latencies(self, side: Side, requests: int, **more: Any) -> list[float]:
        return [FAST[side.name] + (ROUNDS * 3e-3 if "tools" in more else 0.0)] * requests

    async def clients(self, side: Side, *_: object) -> Pace:
        return Pace(self.rates[side.name], 1e-3, 1e-4)

    async def streams(self, side: Side, *_: object) -> Pace:
        return Pace(1000.0, self.cpu_s, 1e-6, Flow(100.0, self.delays))

    async def turns(self, side: Side, tokens: int, *_: object) -> Pace:
        return Pace(100.0, self.cpu_s * tokens, 1e-6)


class Sides:
    """None of them runs."""

    litellm_there = True

    def __init__(self, *_: object, **__: object) -> None:
        self.direct = self._side("direct")

    def relay(self) -> Side:
        return self._side("relay")

    def parley(self) -> Side:
        return self._side("parley")

    def fleet(self) -> Side:
        return self._side("fleet")

    def litellm(self) -> Side:
        if not self.litellm_there:
            raise PeerMissing("LiteLLM is not installed")
        return self._side("litellm")

    def _side(self, name: str) -> Side:
        return Side(name, 1, "none", (), 2)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    made = Loads()
    monkeypatch.setattr(gateway, "loads", made)
    monkeypatch.setattr(gateway, "Sides", Sides)
    return made


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, Figures, str]:
    """The table, the figures, and what was said on standard error."""
    out, err = capsys.readouterr()
    return out, json.loads(out.splitlines()[-1]), err


async def test_every_bound_is_one_of_a_figure_and_in_the_table(
    loads: Loads, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await main(ALL) == 0
    table, figures, err = printed(capsys)
    assert set(GATEWAY) <= set(figures) and None not in [figures[key] for key in GATEWAY]
    assert all(str(bound) in table for bound in GATEWAY.values())
    assert err == ""


@pytest.mark.parametrize("key", sorted(GATEWAY))
async def test_each_bound_that_is_missed_fails_the_run(
    loads: Loads, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Bench._report

    def worse(self: Bench, *args: Any) -> None:
        report(self, *args)
        if key in self.figures:
            self.figures[key] = GATEWAY[key].limit + (1 if GATEWAY[key].most else -1)

    monkeypatch.setattr(Bench, "_report", worse)
    assert await main(ALL) == 1
    assert f"Missed: {key} is " in printed(capsys)[2]


async def test_tokens_that_come_late_fail_the_run(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    loads.delays = [0.05, 0.3]
    assert await main(ALL) == 1
    missed = {line.split()[1] for line in printed(capsys)[2].splitlines()}
    assert missed == {"delay_ms_p95_1", "delay_ms_p95_1_fleet", "delay_ms_p95_20", "delay_ms_p95_20_fleet"}


async def test_a_part_that_was_not_run_is_no_miss(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    loads.cpu_s = 1.0
    assert await main([*ALL, "--only", "added", "--only", "steps"]) == 0
    assert "cpu_us_token_20" not in printed(capsys)[1]


async def test_a_side_that_is_missing_is_no_miss(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Sides, "litellm_there", False)
    assert await main([*ALL, "--without", "fleet"]) == 0
    _, figures, err = printed(capsys)
    assert (figures["throughput_over_peer"], figures["requests_per_s_50_fleet"], err) == (None, None, "")


async def test_a_round_is_a_call_of_the_tool_and_the_step_that_reads_it(
    loads: Loads, capsys: pytest.CaptureFixture[str]
) -> None:
    await main([*ALL, "--only", "steps"])
    figures = printed(capsys)[1]
    for suffix in ("", "_fleet"):
        assert (figures[f"steps_overhead_ms{suffix}"], figures[f"round_overhead_ms{suffix}"]) == (1.5, 3.0)
