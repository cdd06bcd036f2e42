"""Numbers, days and receipts in a person's words."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from chat_app.sessions.threads import MessageView, ThreadLine
from chat_app.ui import words
from chat_app.ui.state.entry import entry, grouped

TODAY = date(2026, 11, 23)


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("moment", "label"),
    [
        ((2026, 11, 23, 0, 1), "Today"),
        ((2026, 11, 24, 0, 1), "Today"),  # A clock that is a little ahead.
        ((2026, 11, 22, 23, 59), "Yesterday"),
        ((2026, 11, 16, 12), "Previous 7 days"),
        ((2026, 11, 15, 12), "Previous 30 days"),
        ((2026, 9, 1, 12), "September"),
        ((2025, 12, 31, 12), "December 2025"),
    ],
)
def test_threads_stand_under_their_day(moment: tuple[int, ...], label: str) -> None:
    assert words.day_label(at(*moment), TODAY, UTC) == label


def test_the_day_is_the_persons_own() -> None:
    late = at(2026, 11, 22, 23, 30)
    assert words.day_label(late, TODAY, UTC) == "Yesterday"
    assert words.day_label(late, TODAY, ZoneInfo("Asia/Tokyo")) == "Today"


def test_an_unknown_zone_is_utc() -> None:
    assert words.zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    for name in ("", "Mars/Olympus", "../etc/passwd", "\0"):
        assert words.zone(name).utcoffset(datetime(2026, 1, 1)) == UTC.utcoffset(None)


def test_the_allowance_is_renewed_on_the_first() -> None:
    assert words.next_month(TODAY) == "1 December"
    assert words.next_month(date(2026, 12, 31)) == "1 January"


def test_a_receipt_says_what_is_known_and_no_more() -> None:
    full = {
        "model": "m", "plan": "pro", "prompt_tokens": 1200, "completion_tokens": 34, "cached_tokens": 1000,
        "queue_ms": 3, "ttft_ms": 120, "tokens_per_s": 41.5, "total_ms": 12_345, "cost_micro": 1234,
        "kept_messages": 5, "dropped_messages": 2, "attempts": 2,
    }  # fmt: skip
    assert words.receipt_lines(full) == [
        ("Model", "m"),
        ("Plan", "pro"),
        ("Prompt", "1,200 tokens"),
        ("from cache", "1,000 tokens"),
        ("Answer", "34 tokens"),
        ("First token", "120 ms"),
        ("Speed", "41.5 tokens/s"),
        ("Total", "12.3 s"),
        ("Cost", "0.001234"),
        ("Messages read", "5, 2 left out"),
        ("Attempts", "2"),
    ]
    assert words.receipt_lines({}) == []
    taken_over = {"ttft_ms": None, "tokens_per_s": None, "cost_micro": 0, "attempts": 1}
    assert words.receipt_lines(taken_over) == [("Cost", "none")]


def test_threads_are_grouped_in_the_order_they_come() -> None:
    now = datetime.now(UTC)
    today = int(now.timestamp() * 1000)
    old = at(2020, 1, 1)
    made = grouped([ThreadLine("a", "A", today), ThreadLine("b", "B", today), ThreadLine("c", "C", old)], UTC)
    assert [(group.label, [thread.id for thread in group.threads]) for group in made] == [
        ("Today", ["a", "b"]),
        ("January 2020", ["c"]),
    ]


def test_questions_stay_whole_and_answers_come_in_blocks() -> None:
    text = "one\n\ntwo"
    question = MessageView("q", None, "user", text, "done", None, "", {}, 1, 0)
    answer = MessageView("a", "q", "assistant", text, "done", "g", "", {"model": "m"}, 1, 0)
    assert entry(question).parts == [text]
    assert entry(answer).parts == ["one\n\n", "two"]
    assert entry(answer).receipt[0].value == "m"


@pytest.mark.parametrize(
    ("position", "eta_s", "said"),
    [
        (1, 0.2, "The model is busy. You are next: about 1 s."),
        (2, 12.4, "The model is busy. 1 ahead of you: about 12 s."),
        (40, 150, "The model is busy. 39 ahead of you: about 2 minutes."),
    ],
)
def test_a_place_in_line(position: int, eta_s: float, said: str) -> None:
    assert words.place_in_line(position, eta_s) == said
