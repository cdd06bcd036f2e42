"""The window keeps the newest part that fits, on a beginning that does not move back, with two counts at most."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.prompts.measure import Count, Measure
from chat_app.prompts.parts import Part
from chat_app.prompts.prompt import Prompt, build
from chat_app.prompts.window import STEP, TooLong, most_chars, starts
from inference.protocol import EngineDied, Message, Tool, ToolCall
from tests.prompts.engines import EXACT, Counter, Uncounting

SYSTEM = Part("system", (Message("system", "be kind"),))


def conversation(texts: Sequence[str]) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(roles[at % 2], text) for at, text in enumerate(texts)]


def bytes_of(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode()) + 1 for message in messages)


async def fit(
    said: Sequence[Message],
    count: Count,
    *,
    context: int = 100,
    answer: int = 20,
    since: int | None = None,
    first: int = 0,
    measure: Measure = EXACT,
    budget: int | None = None,
) -> Prompt:
    parts = [SYSTEM, Part("history", tuple(said[first:-1]), budget), Part("question", (said[-1],))]
    positions = range(first, len(said) - 1)
    return await build(
        parts, context=context, answer=answer, count=count, measure=measure, positions=positions, since=since
    )


async def test_what_surely_fits_is_not_counted() -> None:
    engine = Counter()
    prompt = await fit(conversation(["a b c", "d e", "f"]), engine, context=100)
    assert engine.asked == []
    assert (prompt.counted, prompt.kept, prompt.dropped) == (False, 3, 0)
    assert prompt.tokens == bytes_of(prompt.messages)
    assert prompt.messages[0].content == "be kind"


async def test_sure_is_what_leaves_room_for_the_whole_answer() -> None:
    said = conversation(["a" * 70])
    assert bytes_of([*SYSTEM.messages, *said]) == 79
    engine = Counter()
    assert not (await fit(said, engine, context=99, answer=20)).counted
    assert (await fit(said, engine, context=98, answer=20)).counted
    assert len(engine.asked) == 1


async def test_a_count_lets_an_answer_take_up_to_a_quarter_of_the_context() -> None:
    engine = Counter(len)
    said = conversation(["a" * 66])  # 75 tokens with the rest
    assert (await fit(said, engine, context=100, answer=90)).tokens == 75
    with pytest.raises(TooLong) as error:
        await fit(conversation(["a" * 67]), engine, context=100, answer=90)
    assert (error.value.tokens, error.value.room) == (76, 75)
    assert (await fit(conversation(["a" * 67]), engine, context=100, answer=24)).tokens == 76


async def test_a_last_message_that_does_not_fit_is_an_error_with_its_own_tokens() -> None:
    engine = Counter()
    said = [*conversation(["old"] * 8), Message("user", "w " * 500)]
    with pytest.raises(TooLong) as error:
        await fit(said, engine)
    assert error.value.room == 80
    assert error.value.tokens == 3 + 501
    assert len(engine.asked) == 1


async def test_a_long_last_message_that_fits_takes_all_the_room_it_needs() -> None:
    engine = Counter()
    said = [*conversation(["word " * 3] * 8), Message("user", "longword " * 60)]
    prompt = await fit(said, engine)
    assert prompt.counted
    assert prompt.tokens <= 80
    assert len(engine.asked) <= 2


texts = st.lists(
    st.tuples(st.sampled_from(["w ", "word ", "w", "1", "ü", "語", "🦜 "]), st.integers(0, 80)), min_size=1, max_size=60
)


def written(drawn: list[tuple[str, int]]) -> list[Message]:
    drawn = drawn if len(drawn) % 2 else drawn[:-1] or drawn
    return conversation([piece * times for piece, times in drawn])


tokenizers = st.sampled_from(
    [lambda text: len(text.split()), len, lambda text: len(text.encode()), lambda text: -(-len(text) // 4)]
)


@given(texts, st.integers(30, 400), tokenizers, st.booleans(), st.data())
async def test_what_comes_out_fits_after_two_counts_at_most(drawn, context, tokens, sticky, data) -> None:  # type: ignore[no-untyped-def]
    said, engine = written(drawn), Counter(tokens)
    since = data.draw(st.integers(0, len(said))) if sticky else None
    room = context - min(20, context // 4)
    try:
        prompt = await fit(said, engine, context=context, since=since)
    except TooLong as error:
        assert error.tokens == engine.truth([*SYSTEM.messages, said[-1]]) > error.room == room
        return
    finally:
        assert len(engine.asked) <= 2
    true = engine.truth(prompt.messages)
    assert true <= prompt.tokens <= room
    assert true == prompt.tokens or not prompt.counted
    assert prompt.messages[-1] == said[-1]
    assert prompt.messages[1:] == tuple(said[prompt.dropped :])
    assert prompt.kept + prompt.dropped == len(said)
    assert prompt.dropped % STEP == 0 or prompt.dropped in (since, len(said) - 1)


@given(texts, st.integers(30, 400))
async def test_an_engine_that_cannot_count_gets_what_surely_fits(drawn: list[tuple[str, int]], context: int) -> None:
    said, engine = written(drawn), Uncounting()
    room = context - min(20, context // 4)
    try:
        prompt = await fit(said, engine, context=context)
    except TooLong as error:
        assert error.tokens == bytes_of([*SYSTEM.messages, said[-1]]) > room
        return
    assert engine.asked <= 1
    assert not prompt.counted
    assert prompt.tokens == bytes_of(prompt.messages) <= room
    if prompt.dropped:
        earlier = (prompt.dropped - 1) // STEP * STEP
        assert bytes_of([*SYSTEM.messages, *said[earlier:]]) > room


async def test_a_window_may_be_full_to_the_last_byte_and_to_the_last_estimated_token() -> None:
    surely = await fit([*conversation(["a" * 15] * 8), Message("user", "a" * 7)], Uncounting())
    assert (surely.dropped, surely.tokens) == (4, 80)
    likely = await fit([*conversation(["a" * 51] * 8), Message("user", "a" * 9)], Counter())
    assert (likely.dropped, likely.counted) == (4, True)


async def test_other_trouble_of_the_engine_is_not_hidden() -> None:
    async def dead(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        raise EngineDied("gone")

    with pytest.raises(EngineDied):
        await fit(conversation(["word " * 30] * 5), dead)


async def test_an_engine_that_stops_counting_in_between_is_believed_about_the_bytes() -> None:
    class Forgetful(Counter):
        async def __call__(self, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
            if self.asked:
                return await Uncounting()(messages, tools)
            return await super().__call__(messages, tools)

    engine = Forgetful(lambda text: -(-len(text) // 2))
    prompt = await fit(conversation(["abcdefghi"] * 21), engine, since=0)
    assert len(engine.asked) == 1
    assert (prompt.dropped, prompt.counted) == (16, False)
    assert prompt.tokens == bytes_of(prompt.messages) == 58


@pytest.mark.parametrize(("text", "length", "dropped"), [("abcdefghi", 21, 16), ("ab", 41, 20)])
async def test_a_cut_that_surely_fits_and_keeps_as_much_needs_no_second_count(
    text: str, length: int, dropped: int
) -> None:
    engine = Counter(len)  # The bound is the truth.
    prompt = await fit(conversation([text] * length), engine, since=0)
    assert (prompt.dropped, prompt.counted, len(engine.asked)) == (dropped, False, 1)


async def test_a_second_count_may_fill_the_room_but_not_more() -> None:
    engine = Counter(lambda text: text.count("b"))
    said = [*conversation(["a" * 30] * 4 + ["b" * 17] * 4), Message("user", "b" * 5)]
    full = await fit(said, engine, since=0)
    assert (full.dropped, full.tokens, full.counted, len(engine.asked)) == (4, 80, True, 2)
    said[-1] = Message("user", "b" * 6)
    more = await fit(said, engine, since=0)
    assert (more.dropped, more.tokens, more.counted) == (8, 15, False)


async def test_a_question_that_is_all_of_the_room_leaves_the_history_out() -> None:
    engine = Counter(lambda text: text.count("b"))
    said = [*conversation(["bb"] * 8), Message("user", "b" * 77)]
    prompt = await fit(said, engine)
    assert (prompt.kept, prompt.tokens, prompt.counted, len(engine.asked)) == (1, 80, True, 2)


async def test_without_a_count_the_bytes_of_the_question_say_that_it_is_too_long() -> None:
    with pytest.raises(TooLong) as error:
        await fit([*conversation(["old"] * 8), Message("user", "w" * 90)], Uncounting())
    assert (error.value.tokens, error.value.room) == (99, 80)


# The beginning, from turn to turn ------------------------------------------------------------------------------------


async def test_the_cut_stays_where_it_is_for_several_turns() -> None:
    said = conversation(["word " * 9] * 61)
    cuts = [(await fit(said[:turn], Counter(), context=200, answer=50)).dropped for turn in range(21, 61, 2)]
    assert all(cut % STEP == 0 for cut in cuts)
    assert cuts == sorted(cuts)
    assert len(set(cuts)) <= len(cuts) // 2 + 1


@given(texts, st.integers(60, 400), st.integers(0, 3))
async def test_estimates_never_move_the_cut_back(drawn: list[tuple[str, int]], context: int, measure: int) -> None:
    """With no word of the turn before: a tokenizer within the estimate, as those of today's models are."""
    said, engine = written(drawn), Counter()
    cuts = []
    for turn in range(1, len(said) + 1, 2):
        try:
            cuts.append((await fit(said[:turn], engine, context=context, measure=Measure(0, 1 + measure, 0))).dropped)
        except TooLong:
            return
    assert cuts == sorted(cuts)


@given(texts, st.integers(30, 400), tokenizers)
async def test_no_tokenizer_moves_the_cut_back_where_the_last_one_is_known(drawn, context, tokens) -> None:  # type: ignore[no-untyped-def]
    said, engine, since = written(drawn), Counter(tokens), None
    for turn in range(1, len(said) + 1, 2):
        try:
            prompt = await fit(said[:turn], engine, context=context, since=since)
        except TooLong:
            continue
        assert since is None or prompt.dropped >= since
        since = prompt.dropped


async def test_a_known_beginning_is_kept_for_as_long_as_it_fits() -> None:
    said, engine = conversation(["longer words here"] * 101), Counter()
    cuts, fullest, since = [], 0, 0
    for turn in range(1, 101, 2):
        prompt = await fit(said[:turn], engine, context=200, answer=50, since=since)
        since = prompt.dropped
        cuts.append(since)
        fullest = max(fullest, engine.truth(prompt.messages))
    assert cuts == sorted(cuts)
    assert fullest > 140  # of 150: more than any estimate would have dared
    changes = sum(before != after for before, after in pairwise(cuts))
    assert changes <= 8  # 50 turns, each cut makes room for at least four


async def test_after_a_count_that_says_too_long_a_quarter_of_the_room_is_freed() -> None:
    said, engine = conversation(["longer words here"] * 41), Counter()
    prompt = await fit(said, engine, context=200, answer=50, since=0)
    assert len(engine.asked) == 2
    assert 80 < prompt.tokens <= 150 * 3 // 4 + 4


async def test_a_thread_read_from_its_end_is_cut_where_the_whole_one_is() -> None:
    said = conversation([f"{at} some words" for at in range(81)])
    whole = await fit(said, Counter(), context=200, answer=50)
    for first in (33, 38, 40, 51):
        part = await fit(said, Counter(), context=200, answer=50, first=first)
        assert part.messages == whole.messages
        assert (part.dropped, part.kept) == (whole.dropped, whole.kept)


async def test_a_window_begins_at_a_step_of_the_thread_not_of_what_was_read() -> None:
    said = conversation(["a"] * 21)
    prompt = await fit(said, Counter(), first=6)
    assert (prompt.dropped, prompt.kept) == (8, 13)


async def test_what_was_left_out_of_a_thread_moves_no_step() -> None:
    history = tuple(conversation(["a"] * 6))
    parts = [Part("history", history), Part("question", (Message("user", "q"),))]
    found = starts(history, [0, 1, 6, 7, 8, 9], None, "user")
    assert found == [0, 2, 4, 6]
    prompt = await build(
        parts, context=999, answer=1, count=Counter(), measure=EXACT, positions=[2, 3, 6, 7, 8, 9], since=None
    )
    assert (prompt.dropped, prompt.kept) == (6, 5)


async def test_a_beginning_that_is_no_step_may_be_kept_but_nothing_before_it() -> None:
    said = conversation(["a"] * 21)
    assert (await fit(said, Counter(), since=6)).dropped == 6
    assert (await fit(said, Counter(), since=6, first=7)).dropped == 8
    assert (await fit(said, Counter(), since=20)).kept == 1


async def test_a_beginning_that_was_not_read_leaves_the_choice_to_the_estimate() -> None:
    said = conversation(["word " * 9] * 61)
    fresh, lost = Counter(), Counter()
    assert await fit(said, lost, context=200, first=8, since=2) == await fit(said, fresh, context=200, first=8)
    assert lost.asked == fresh.asked
    assert len(lost.asked) == 1


async def test_a_template_that_adds_more_than_was_measured_is_counted_again() -> None:
    engine = Counter(lambda text: len(text) * 2)
    prompt = await fit(conversation(["abcdefgh"] * 41), engine, context=200, answer=20)
    assert prompt.counted
    assert (prompt.kept, prompt.tokens) == (5, 100)
    assert len(engine.asked) == 2
    engine = Counter(lambda text: len(text) * 5)
    assert (await fit(conversation(["abcdefgh"] * 41), engine, context=200, answer=20)).kept == 1


def test_what_is_worth_reading_grows_with_the_context() -> None:
    assert most_chars(2_000) == 2 * most_chars(1_000) >= 5_000


# Tools and strange conversations -------------------------------------------------------------------------------------

CALL = Message("assistant", "", (ToolCall("c", "add", "{}"),))
RESULT = Message("tool", "5", tool_call_id="c")
ROLES = {"u": Message("user", "q"), "a": Message("assistant", "a"), "c": CALL, "t": RESULT}


@given(st.text(st.sampled_from("uact"), max_size=40), st.sampled_from(["user", "assistant"]), st.integers(0, 9))
def test_no_window_begins_with_a_tools_result(roles: str, next_role: str, first: int) -> None:
    history = [ROLES[role] for role in roles]
    found = starts(history, range(first, first + len(history)), None, next_role)
    assert found == sorted(set(found))
    assert found[-1] == len(history)
    for at in found[:-1]:
        assert history[at].role != "tool"
        assert not roles[:at].strip("t") or history[at].role == "user" or next_role != "user"


def test_a_window_begins_with_a_question_where_there_is_one() -> None:
    history = [ROLES[role] for role in "ucctacuaua"]
    assert starts(history, range(10), None, "user") == [0, 6, 8, 10]
    assert starts([ROLES[role] for role in "ucttctct"], range(8), None, "assistant") == [0, 4, 8]
    assert starts([ROLES[role] for role in "ucctt"], range(5), None, "assistant") == [0, 5]


def test_a_whole_conversation_may_begin_with_a_greeting() -> None:
    assert starts([ROLES[role] for role in "auauauau"], range(8), None, "user") == [0, 5, 8]


def test_nothing_to_cut_has_one_beginning() -> None:
    assert starts([], [], None, "user") == [0]


async def test_a_budget_for_the_history_cuts_it_before_the_window_is_full() -> None:
    said = conversation(["abc"] * 20 + ["q"])  # two tokens each, as estimated
    assert (await fit(said, Counter(), context=1_000, budget=24)).dropped == 8
    assert (await fit(said, Counter(), context=1_000, budget=23)).dropped == 12
    assert (await fit(said, Counter(), context=1_000, budget=0)).kept == 1
