"""A clock that is put back while an answer is written."""

import json

import pytest

from chat_app.billing.ledger import period_of
from chat_app.data.ids import now_ms
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.steps import Step
from chat_app.turn.receipt import elapsed_ms
from chat_app.turn.remains import given_up
from chat_app.wiring import Parley
from tests.parley import answer, person, script, so_far

CLOCKS = [
    f"chat_app.{name}.now_ms" for name in ("turn.receipt", "turn.stream", "turn.token_counter", "sessions.log_writer")
]
HOUR_MS = 3_600_000


async def test_no_time_is_negative_and_no_speed_is_made_up(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=60, rate=60, seed=1))
    await so_far(parley, started.generation_id, more_than=0)
    for clock in CLOCKS:
        monkeypatch.setattr(clock, lambda: now_ms() - HOUR_MS)
    assert (await answer(parley, started.generation_id))[1] == "done"
    receipt = (await parley.generations.view(ada, started.generation_id)).receipt
    [row] = await parley.db.query("SELECT payload FROM event WHERE id = $1", started.generation_id)
    event = json.loads(row["payload"])
    for shown in (receipt, event):
        assert shown["total_ms"] == 0
        assert shown["tokens_per_s"] is None
        assert min(shown["queue_ms"], shown["ttft_ms"]) >= 0


async def test_a_clock_that_is_put_back_before_the_first_token(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=60, rate=60, seed=1, prefill_s=0.5))
    for clock in CLOCKS:
        monkeypatch.setattr(clock, lambda: now_ms() - HOUR_MS)
    assert (await answer(parley, started.generation_id))[1] == "done"
    receipt = (await parley.generations.view(ada, started.generation_id)).receipt
    assert (receipt["ttft_ms"], receipt["total_ms"]) == (0, 0)
    assert 30 < receipt["tokens_per_s"] < 120, "within the answer the times are in order"


def test_an_answer_that_is_given_up() -> None:
    later = now_ms() + HOUR_MS
    row = GenerationRow("g", "one", "u", "standard", period_of(later), later)
    step = Step("g", 1, "model", status="failed", started_at=later, finished_at=later - 5)
    other = Step("g", 2, "tool", name="calculator", status="failed", started_at=later, finished_at=later + 5)
    receipt = given_up(row, "It failed.", [step, other], "").receipt
    assert (receipt["total_ms"], [line["ms"] for line in receipt["steps"]]) == (0, [0, 5])


def test_elapsed() -> None:
    assert [elapsed_ms(3, until) for until in (1, 3, 10)] == [0, 0, 7]
