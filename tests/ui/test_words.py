"""Numbers, days and receipts in a person's words."""

import json
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from chat_app.data.log.entries import Entry as LogEntry
from chat_app.data.log.entries import clean, encode
from chat_app.sessions.threads import MessageView, ThreadLine
from chat_app.ui import words
from chat_app.ui.parts import Part, Parts
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
        "model": "m", "plan": "pro", "prompt_tokens": 1200,
        "completion_tokens": 34, "cached_tokens": 1000,
        "queue_ms": 3, "ttft_ms": 120, "tokens_per_s": 41.5, "total_ms": 12_345, "cost_micro": 1234,
        "kept_messages": 5, "dropped_messages": 2, "attempts": 2,
    }  # fmt: skip
    assert words.receipt_lines(full, {"pro": "Professional"}) == [
        ("Model", "m"),
        ("Plan", "Professional"),
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
    assert words.receipt_lines({"plan": "pro"}, {}) == [("Plan", "pro")]
    assert words.receipt_lines({}, {}) == []
    taken_over = {"ttft_ms": None, "tokens_per_s": None, "cost_micro": 0, "attempts": 1}
    assert words.receipt_lines(taken_over, {}) == [("Cost", "none")]


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
    question = MessageView("q", None, "user", text, "done", None, "", {}, 1, 0, 0)
    answer = MessageView("a", "q", "assistant", text, "done", "g", "", {"model": "m", "plan": "pro"}, 1, 0, len(text))
    names = {"pro": "Professional"}
    assert entry(question, names).text == text
    assert entry(answer, names).parts == [Part(blocks=["one\n\n", "two"])]
    assert [fact.value for fact in entry(answer, names).receipt] == ["m", "Professional"]


def view(content: str = "", length: int = 0, status: str = "done", *, log: str = "", error: str = "") -> MessageView:
    """An answer; `length` is how long its log was."""
    return MessageView("a", "q", "assistant", content, status, "g", error, {"completion_tokens": 1}, 1, 0, length, log)


def test_an_ended_answer_without_its_text_says_that_it_is_gone() -> None:
    lost = entry(view(length=1234), {})
    assert lost.status == "gone"
    assert lost.error == "The text of this answer is not kept any more; its log had 1,234 characters."
    for other in (view("x", 1), view(length=7, status="streaming"), view(length=7, status="failed")):
        assert entry(other, {}).status == other.status


@pytest.mark.parametrize(
    ("log", "content"),
    [
        ([], ""),
        ([LogEntry("reasoning", "Hm.")], ""),
        ([LogEntry("text", " \n")], " \n"),
        ([LogEntry("tool_call", data={"id": "1", "name": "calculator", "arguments": "{}"})], ""),
    ],
)
def test_an_answer_without_a_word_says_so(log: list[LogEntry], content: str) -> None:
    encoded = encode(log)
    empty = entry(view(content, len(encoded), log="" if encoded == content else encoded), {})
    assert (empty.status, empty.error) == ("empty", "The model gave no answer.")
    assert [part.kind for part in empty.parts] == [each.kind.removesuffix("_call") for each in log]


@pytest.mark.parametrize("status", ["stopped", "failed", "refused", "streaming"])
def test_an_answer_that_has_another_reason_keeps_it(status: str) -> None:
    assert entry(view(status=status), {}).status == status
    shown = entry(view(error="No room for another step."), {})
    assert (shown.status, shown.error) == ("done", "No room for another step.")


@pytest.mark.parametrize(
    ("arguments", "result", "state", "line"),
    [
        ('{"expression": "17 * 23"}', "391", "done", "Used calculator: 17 * 23 = 391"),
        ('{"expression": "17 * 23"}', "", "running", "Using calculator…"),
        ('{"expression": "1 / 0"}', "division by zero", "failed", "Could not use calculator: 1 / 0"),
        ("", "", "failed", "Could not use calculator"),
        ("not JSON", "1", "done", "Used calculator: not JSON = 1"),
        ('["a"]', "1", "done", 'Used calculator: ["a"] = 1'),
        ('{"a": 1, "b": "two"}', "", "done", "Used calculator: a: 1, b: two"),
        ('{"a": "' + "9" * 200 + '"}', "8" * 200, "done", f"Used calculator: {'9' * 59}…"),
        ('{"a": "x\\ny"}', "1\n2", "done", "Used calculator: x y"),
        ("{}", "", "done", "Used calculator"),
    ],
)
def test_the_use_of_a_tool_is_one_line(arguments: str, result: str, state: str, line: str) -> None:
    assert words.tool_use("calculator", arguments, result, state) == line


def test_a_tools_long_name_is_cut() -> None:
    for state in ("running", "done", "failed"):
        assert len(words.tool_use("n" * 5_000, "", "", state)) < 100
    [(label, _), _] = words.step_lines({"steps": [{"name": "n" * 5_000}, {"name": "b"}]})
    assert len(label) < 100


def test_what_a_tool_was_asked_is_laid_out_while_that_is_short() -> None:
    assert words.tool_text('{"a":[1,"ü"]}') == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}'
    for plain in ("", "391", '"text"', "{oops", "123456789" * 20):
        assert words.tool_text(plain) == plain
    assert "123456789012345678901234567890" in words.tool_text('{"a": 123456789012345678901234567890}')
    exact = "x" * words.MOST_SHOWN
    assert words.tool_text(exact) == exact
    assert words.tool_text(exact + "yz") == f"{exact}… (2 more characters)"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2_000,
        "[" * 2_000 + "]" * 2_000,
        '{"a":' * 600 + "1" + "}" * 600,
        "[" * 200 + "1," * 1_700 + "1" + "]" * 200,
        '{"a": ' + "[" * 1_900 + "]" * 1_900 + "}",
        "[" * 200_000,
        "9" * 200_000,
    ],
)
def test_no_json_is_too_deep_or_grows_in_being_laid_out(text: str) -> None:
    assert len(words.tool_text(text)) < words.MOST_SHOWN + 100
    assert len(words.tool_use("calculator", text, text, "done")) < 200


def test_another_tools_result_is_no_equation() -> None:
    assert words.tool_use("weather", '{"city": "Oslo"}', "4 °C", "done") == "Used weather: Oslo → 4 °C"


def test_a_call_that_nobody_made_is_only_asked_for() -> None:
    said = words.tool_use("calculator", '{"expression": "17 * 23"}', "", "unanswered")
    assert said == "Asked for calculator: 17 * 23"
    assert words.tool_use("nope", '{"a": 1}', "", "unknown") == "Asked for a tool that does not exist"


def test_marks_of_direction_do_not_turn_a_line_round() -> None:
    turned = json.dumps({"expression": "\u202e1 + 2\u2066"})
    assert words.tool_use("calc\u202eulator", turned, "\u202e3", "done") == "Used calculator: 1 + 2 = 3"
    assert words.tool_use("نرم\u200cافزار", "{}", "", "running") == "Using نرم\u200cافزار…"


def test_how_long_was_thought() -> None:
    assert words.thought() == "Thinking…"
    assert words.thought(None, running=False) == "Thought"
    assert words.thought(40, running=False) == "Thought for a moment"
    assert words.thought(600, running=False) == "Thought for 1 s"
    assert words.thought(3_400, running=False) == "Thought for 3 s"


def test_a_receipt_lists_its_steps_when_there_are_several() -> None:
    model = {"kind": "model", "model": "m", "prompt_tokens": 1200, "completion_tokens": 34, "ms": 900}
    tool = {"kind": "tool", "name": "calculator", "prompt_tokens": 0, "completion_tokens": 0, "ms": 3}
    assert words.step_lines({"steps": [model, tool]}) == [
        ("1. m", "1,200 + 34 tokens, 900 ms"),
        ("2. calculator", "3 ms"),
    ]
    assert words.step_lines({"steps": [{"kind": "check"}, {"kind": "tool", "name": ""}]}) == [
        ("1. check", ""),
        ("2. tool", ""),
    ]
    for one in ({"steps": [model]}, {"steps": None}, {}):
        assert words.step_lines(one) == []
    assert words.receipt_lines({"screen_ms": 12}, {}) == [("Checked in", "12 ms")]


@pytest.mark.parametrize(
    ("position", "eta_s", "said"),
    [
        (1, 0.2, "The model is busy. You are next: about 1 s."),
        (2, 12.4, "The model is busy. 1 ahead of you: about 12 s."),
        (40, 150, "The model is busy. 39 ahead of you: about 2 minutes."),
    ],
)
def test_the_position_in_the_queue(position: int, eta_s: float, said: str) -> None:
    assert words.queue_position(position, eta_s) == said


HALF = r"\ud83d"
"""Half an emoji, as a model's arguments have it: plain ASCII until they are decoded."""


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (f'{{"expression": "1+1 {HALF}"}}', "1+1 ?"),
        (f'{{"expression": ["1+1 {HALF}"]}}', None),
        (f'{{"a{HALF}": "1", "b": "2"}}', "a?: 1, b: 2"),
        (r'{"expression": "1\u0000+\u001e1\u007f"}', "1+1"),
    ],
)
def test_what_a_call_hides_in_escapes_is_shown_as_any_page_can_hold_it(arguments: str, asked: str | None) -> None:
    call = LogEntry("tool_call", data={"id": "c", "name": "calculator", "arguments": arguments})
    result = LogEntry("tool_result", data={"id": "c", "name": "calculator", "content": arguments, "failed": False})
    running, ended = Parts(), Parts()
    running.feed([call])
    ended.feed([call, result])
    for part in (*running.whole, *ended.whole):
        for text in (part.label, part.arguments, part.result):
            assert text == clean(text)
            assert text.encode().decode() == text
    if asked is not None:
        assert words.tool_use("calculator", arguments, "", "done") == f"Used calculator: {asked}"
