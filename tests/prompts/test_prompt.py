"""A prompt: parts in order, one system message at the top, the next step behind it, and its way through JSON."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.prompts.measure import Measure
from chat_app.prompts.parts import KINDS, Part, conversation, flattened
from chat_app.prompts.prompt import Damaged, Prompt, UnknownPart, build, exact, followed_by
from chat_app.prompts.window import TooLong
from inference.protocol import CannotCount, Message, Tool, ToolCall
from tests.prompts.engines import EXACT, Counter, Uncounting

ADD = Tool("add", "Adds.", '{"type": "object"}')
ROUND = (Message("assistant", "", (ToolCall("c1", "add", '{"a": 1}'),)), Message("tool", "5", tool_call_id="c1"))


def system(kind: Any, *contents: str, budget: int | None = None) -> Part:
    return Part(kind, tuple(Message("system", content) for content in contents), budget)


def question(text: str = "q") -> Part:
    return Part("question", (Message("user", text),), source="person")


# Parts ---------------------------------------------------------------------------------------------------------------


def test_all_that_guides_the_model_is_one_system_message_at_the_top() -> None:
    history = Part("history", (Message("user", "hi"), Message("system", "in between"), Message("assistant", "yes")))
    parts = [
        system("system", "be kind"),
        system("memory", "likes tea", ""),
        history,
        question(),
        system("summary", "s"),
    ]
    assert flattened(parts) == (
        Message("system", "be kind\n\nlikes tea\n\ns"),
        *history.messages,
        Message("user", "q"),
    )


def test_nothing_to_say_is_no_system_message() -> None:
    assert flattened([system("system", ""), question()]) == (Message("user", "q"),)


def test_a_program_that_brings_its_own_system_prompt_keeps_it() -> None:
    own = Message("system", "you are a parrot")
    parts = conversation([own, Message("user", "hi")], "be kind", "request")
    assert flattened(parts) == (own, Message("user", "hi"))
    assert parts[0].source == "request"


@pytest.mark.parametrize("source", ["request", "thread"])
def test_a_conversation_without_one_gets_the_deployments(source: str) -> None:
    messages = [Message("user", "hi"), Message("assistant", "yes"), Message("user", "q")]
    parts = conversation(messages, "be kind", source)
    assert flattened(parts) == (Message("system", "be kind"), *messages)
    assert [(part.kind, part.source) for part in parts] == [
        ("system", "deployment"),
        ("history", source),
        ("question", source),
    ]


def test_tool_results_at_the_end_are_one_question_with_their_call() -> None:
    _, history, last = conversation([Message("user", "hi"), *ROUND, ROUND[1]], "", "request")
    assert history.messages == (Message("user", "hi"),)
    assert last.messages == (*ROUND, ROUND[1])


def test_a_conversation_of_results_alone_loses_none() -> None:
    _, history, last = conversation([ROUND[1], ROUND[1]], "", "request")
    assert (history.messages, last.messages) == ((), (ROUND[1], ROUND[1]))


async def test_a_part_keeps_to_its_budget_and_the_first_messages_come_first() -> None:
    memory = system("memory", "abc", "abcd", "abc", budget=5)  # estimated at 2, 3 and 2 tokens
    prompt = await build([memory, question()], context=100, answer=9, count=Counter(), measure=EXACT)
    assert prompt.messages[0].content == "abc\n\nabcd"
    prompt = await build([replace(memory, budget=4), question()], context=100, answer=9, count=Counter(), measure=EXACT)
    assert prompt.messages[0].content == "abc"


async def test_a_question_has_no_budget() -> None:
    part = Part("question", (Message("user", "long question"),), budget=1)
    prompt = await build([part], context=100, answer=9, count=Counter(), measure=EXACT)
    assert prompt.messages == part.messages


async def test_parts_that_are_no_history_are_never_cut() -> None:
    engine = Counter()
    parts = [system("documents", "word " * 60), Part("history", (Message("user", "old"),) * 8), question()]
    prompt = await build(parts, context=100, answer=25, count=engine, measure=EXACT)
    assert prompt.messages[0].content == "word " * 60
    assert engine.truth(prompt.messages) == prompt.tokens <= 75
    with pytest.raises(TooLong):
        await build(
            [system("documents", "word " * 80), question()], context=100, answer=25, count=engine, measure=EXACT
        )


async def test_a_prompt_without_a_history_is_counted_once() -> None:
    engine = Counter()
    prompt = await build([question("word " * 50)], context=100, answer=25, count=engine, measure=EXACT)
    assert (prompt.tokens, prompt.kept, prompt.dropped, len(engine.asked)) == (51, 1, 0, 1)


async def test_tools_take_room_too() -> None:
    seen = []

    async def count(messages: Any, tools: Any) -> int:
        seen.append(tuple(tools))
        return 60

    bare = await build([question()], context=1_000, answer=100, count=count, measure=EXACT)
    prompt = await build([question()], context=1_000, answer=100, count=count, measure=EXACT, tools=[ADD])
    assert prompt.tools == (ADD,)
    assert prompt.tokens > bare.tokens + len("add" + "Adds." + ADD.parameters)
    assert seen == []
    await build([question()], context=300, answer=100, count=count, measure=EXACT, tools=[ADD])
    assert seen == [(ADD,)]


async def test_an_estimate_leaves_room_for_the_tools() -> None:
    engine, wide = Counter(), Measure(base=0, each=1, tools=300)
    parts = [history(200), question()]
    await build(parts, context=900, answer=100, count=engine, measure=wide)
    await build(parts, context=900, answer=100, count=engine, measure=wide, tools=[ADD])
    without, beside = engine.asked
    assert len(beside) < len(without) - 300 // 5


# Counted, and the step after ------------------------------------------------------------------------------------------


async def test_exact_is_the_same_prompt_counted_once() -> None:
    engine = Counter()
    prompt = await build([question("three words here")], context=100, answer=9, count=engine, measure=EXACT)
    counted = await exact(prompt, engine)
    assert (counted.tokens, counted.counted, counted.parts) == (4, True, prompt.parts)
    assert await exact(counted, engine) is counted
    assert len(engine.asked) == 1
    with pytest.raises(CannotCount):
        await exact(prompt, Uncounting())


def history(length: int, text: str = "some words") -> Part:
    return Part("history", tuple(Message(("user", "assistant")[at % 2], text) for at in range(length)))


async def test_the_next_step_reads_the_same_and_what_came_of_it() -> None:
    engine = Counter()
    prompt = await build(
        [system("system", "be kind"), history(4), question()], context=900, answer=9, count=engine, measure=EXACT
    )
    after = await followed_by(prompt, ROUND, context=900, answer=9, count=engine, measure=EXACT)
    assert after.messages == (*prompt.messages, *ROUND)
    assert (after.kept, after.dropped, after.counted) == (prompt.kept, prompt.dropped, False)
    assert after.tokens == prompt.tokens + sum(map(EXACT.of_message, ROUND))
    assert engine.asked == []
    third = await followed_by(after, ROUND, context=900, answer=9, count=engine, measure=EXACT)
    assert third.messages == (*prompt.messages, *ROUND, *ROUND)


async def test_a_counted_prompt_is_no_longer_counted_with_more_behind_it() -> None:
    engine = Counter()
    prompt = await exact(await build([question()], context=900, answer=9, count=engine, measure=EXACT), engine)
    after = await followed_by(prompt, ROUND, context=900, answer=9, count=engine, measure=EXACT)
    assert not after.counted
    assert after.tokens >= engine.truth(after.messages)


async def test_a_long_result_pushes_old_history_out_but_never_the_question() -> None:
    engine = Counter()
    result = (ROUND[0], Message("tool", "number " * 60, tool_call_id="c1"))
    prompt = await build([history(20), question()], context=200, answer=50, count=engine, measure=EXACT)
    after = await followed_by(prompt, result, context=200, answer=50, count=engine, measure=EXACT)
    assert after.messages[-3:] == (Message("user", "q"), *result)
    assert after.dropped > prompt.dropped
    assert after.kept + after.dropped == 21
    assert engine.truth(after.messages) <= after.tokens <= 150
    with pytest.raises(TooLong):
        await followed_by(
            after, (ROUND[0], Message("tool", "n " * 200)), context=200, answer=50, count=engine, measure=EXACT
        )


async def test_what_surely_fits_behind_a_prompt_is_not_counted() -> None:
    engine = Counter()
    start = await build([question("w " * 50)], context=999, answer=9, count=engine, measure=EXACT, tools=[ADD])
    prompt = await exact(start, engine)
    room = prompt.tokens + sum(map(EXACT.of_message, ROUND))
    after = await followed_by(prompt, ROUND, context=room + 9, answer=9, count=engine, measure=EXACT)
    assert (after.tokens, after.counted, len(engine.asked)) == (room, False, 1)
    after = await followed_by(prompt, ROUND, context=room + 8, answer=9, count=engine, measure=EXACT)
    assert (after.tools, after.counted, len(engine.asked)) == ((ADD,), True, 2)


async def test_a_result_that_fits_leaves_the_beginning_where_it_is() -> None:
    engine = Counter()
    prompt = await build([history(60), question()], context=200, answer=50, count=engine, measure=EXACT)
    assert prompt.dropped
    after = await followed_by(prompt, ROUND, context=200, answer=50, count=engine, measure=EXACT)
    assert after.messages == (*prompt.messages, *ROUND)
    assert after.dropped == prompt.dropped


# JSON ----------------------------------------------------------------------------------------------------------------

names = st.text(max_size=8)
calls = st.builds(ToolCall, names, names, names)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text(), st.tuples(calls) | st.just(()), names
)
parts = st.builds(
    Part,
    st.sampled_from(sorted(KINDS)),
    st.lists(messages, max_size=4).map(tuple),
    st.none() | st.integers(0, 2**40),
    names,
)
prompts = st.builds(
    Prompt,
    st.lists(parts, max_size=6).map(tuple),
    st.lists(st.builds(Tool, names, names, names), max_size=3).map(tuple),
    st.integers(0, 2**40),
    st.booleans(),
    st.integers(0, 2**30),
    st.integers(0, 2**30),
)


@given(prompts)
def test_a_prompt_survives_its_journey_through_json(prompt: Prompt) -> None:
    text = prompt.to_json()
    assert "\x00" not in text
    assert Prompt.from_json(text) == prompt
    assert Prompt.from_json(text).messages == prompt.messages


WHOLE = Prompt((system("system", "be kind"), history(2), question()), (ADD,), 40, True, 3, 4)


def changed(path: list[Any], value: Any) -> str:
    stored = orjson.loads(WHOLE.to_json())
    place = stored
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(stored)


def test_what_a_newer_release_wrote_is_unknown_not_damaged() -> None:
    for path, value in (
        (["version"], 2),
        (["prompt", "parts", 1, "kind"], "dreams"),
        (["prompt", "parts", 2, "version"], 2),
    ):
        with pytest.raises(UnknownPart):
            Prompt.from_json(changed(path, value))
    assert not issubclass(UnknownPart, ValueError)


def test_a_newer_format_is_unknown_even_where_the_rest_makes_no_sense() -> None:
    with pytest.raises(UnknownPart):
        Prompt.from_json('{"version": 2, "parts": "elsewhere"}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"version": 1, "prompt": 7}',
        '{"version": 1, "prompt": {"parts": [7]}}',
        changed(["prompt", "parts"], 7),
        changed(["prompt", "parts", 0, "kind"], 7),
        changed(["prompt", "parts", 0, "kind"], None),
        changed(["prompt", "parts", 0, "messages", 0, "content"], 7),
        changed(["prompt", "tokens"], "40"),
        changed(["version"], "1"),
        WHOLE.to_json()[:-3],
    ],
)
def test_damaged_json_is_said_to_be_without_a_word_of_it(text: str) -> None:
    with pytest.raises(Damaged) as error:
        Prompt.from_json(text)
    assert isinstance(error.value, ValueError)
    assert str(error.value) == "this is not the JSON of a prompt"
    assert error.value.__suppress_context__


def test_what_a_later_release_added_beside_is_ignored() -> None:
    assert Prompt.from_json(changed(["prompt", "parts", 0, "colour"], "red")) == WHOLE
