"""A turn from the first word to the ledger, on real parts."""

import asyncio
import json

import pytest

from chat_app.data.log.entries import text_of
from chat_app.turn import TurnError
from chat_app.wiring import Parley
from inference.protocol import Message, Sampling
from tests.parley import answer, expected, goes_on, person, prompt_tokens, script


async def plan_with(parley: Parley, **terms: object) -> str:
    """A plan of its own with these terms."""
    fields = {
        "id": "tiny",
        "name": "Tiny",
        "monthly_tokens": None,
        "requests_per_minute": 600,
        "concurrent_streams": 8,
    }
    await parley.plans.save(**{**fields, **terms})  # type: ignore[arg-type]
    return "tiny"


async def test_a_first_message_makes_a_thread_and_is_answered_to_the_letter(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=60, rate=0, seed=1)
    started = await parley.turns.say(ada, question)
    assert started.thread_id is not None
    assert await answer(parley, started.generation_id) == (expected(question), "done")

    thread = await parley.threads.open(ada, started.thread_id)
    asked, answered = thread.messages
    assert (asked.role, asked.content) == ("user", question)
    assert (answered.role, answered.content, answered.status) == ("assistant", expected(question), "done")
    assert answered.receipt["completion_tokens"] == 60
    assert answered.receipt["prompt_tokens"] == await prompt_tokens(parley, question)
    assert [line.id for line in await parley.threads.recent(ada)] == [thread.id]


async def test_what_is_charged_is_what_the_engine_counted_and_no_hold_stays(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, question := script(tokens=40, rate=0, seed=2))
    await answer(parley, started.generation_id)
    allowance = await parley.ledger.allowance(ada.user_id, 100_000)
    assert (allowance.used, allowance.held) == (await prompt_tokens(parley, question) + 40, 0)
    kinds = await parley.db.query("SELECT kind, tokens FROM ledger WHERE user_id = $1 ORDER BY created_at", ada.user_id)
    assert [row["kind"] for row in kinds] == ["hold", "settle"]
    assert kinds[1]["tokens"] == allowance.used


async def test_a_second_turn_sees_the_first(parley: Parley) -> None:
    ada = await person(parley)
    first = await parley.turns.say(ada, one := script(tokens=5, rate=0, seed=3))
    await answer(parley, first.generation_id)
    second = await parley.turns.say(ada, two := script(tokens=5, rate=0, seed=4), first.thread_id)
    await answer(parley, second.generation_id)
    view = await parley.threads.open(ada, str(first.thread_id))
    assert view.messages[-1].receipt["prompt_tokens"] == await prompt_tokens(parley, one, expected(one), two)
    assert [message.role for message in view.messages] == ["user", "assistant"] * 2


async def test_regenerate_puts_a_new_answer_beside_the_old(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=5, rate=0, seed=3)
    first = await parley.turns.say(ada, question)
    await answer(parley, first.generation_id)
    again = await parley.turns.regenerate(ada, str(first.answer_id))
    assert await answer(parley, again.generation_id) == (expected(question), "done")
    view = await parley.threads.open(ada, str(first.thread_id))
    assert [message.id for message in view.messages] == [first.question_id, again.answer_id]
    assert view.messages[-1].versions == 2


async def test_stop_keeps_and_charges_what_was_delivered(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=2000, rate=100, seed=5)
    started = await parley.turns.say(ada, question)
    seen, end = "", None
    async for piece in parley.viewer.follow(started.generation_id):
        seen, end = seen + text_of(piece.entries), piece.end
        if len(seen) > 100 and end is None:
            await parley.turns.stop(ada, started.generation_id)
    assert end == "stopped"
    assert expected(question).startswith(seen)
    view = await parley.threads.open(ada, str(started.thread_id))
    assert view.messages[-1].content == seen
    assert 0 < view.messages[-1].receipt["completion_tokens"] < 300
    allowance = await parley.ledger.allowance(ada.user_id, None)
    prompt = await prompt_tokens(parley, question)
    assert allowance.used == prompt + view.messages[-1].receipt["completion_tokens"]
    assert allowance.held == 0


async def test_stop_before_the_first_token_costs_nothing(parley: Parley) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, script(tokens=10, rate=0, seed=5, prefill_s=20))
    await asyncio.sleep(0.2)
    await parley.turns.stop(ada, started.generation_id)
    assert await asyncio.wait_for(answer(parley, started.generation_id), 2) == ("", "stopped")
    assert (await parley.ledger.allowance(ada.user_id, None)).used == 0


async def test_streamed_and_unstreamed_calls_cost_the_same(parley: Parley) -> None:
    ada = await person(parley)
    messages = [Message("user", script(tokens=30, rate=0, seed=9))]
    charged = []
    for _ in range(2):
        before = (await parley.ledger.allowance(ada.user_id, None)).used
        started = await parley.turns.call(ada, messages, sampling=Sampling(max_tokens=100))
        await answer(parley, started.generation_id)
        charged.append((await parley.ledger.allowance(ada.user_id, None)).used - before)
    assert charged[0] == charged[1] == await prompt_tokens(parley, messages[0].content, tools=False) + 30


async def test_max_tokens_ends_an_answer(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=300, rate=0, seed=9)
    started = await parley.turns.call(ada, [Message("user", question)], sampling=Sampling(max_tokens=12))
    text, end = await answer(parley, started.generation_id)
    assert end == "done"
    assert expected(question).startswith(text)
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.completion_tokens, view.receipt["finish"]) == (12, "length")


async def test_a_month_that_is_used_up_is_reported_and_nothing_is_held(parley: Parley) -> None:
    ada = await person(parley)
    await parley.accounts.set_plan(ada.user_id, await plan_with(parley, monthly_tokens=20))
    ada = await identity_again(parley, ada.user_id)
    with pytest.raises(TurnError) as error:
        await parley.turns.say(ada, script(tokens=30, rate=0, seed=9))
    assert error.value.code == "quota_exceeded"
    allowance = await parley.ledger.allowance(ada.user_id, 20)
    assert (allowance.used, allowance.held) == (0, 0)
    assert await parley.threads.recent(ada) == []


async def test_the_rest_of_a_month_gives_a_shorter_answer(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=300, rate=0, seed=9)
    probe = await parley.turns.say(ada, question)
    await answer(parley, probe.generation_id)
    used = (await parley.ledger.allowance(ada.user_id, None)).used
    limit = used + await prompt_tokens(parley, question) + 25
    await parley.accounts.set_plan(ada.user_id, await plan_with(parley, monthly_tokens=limit))
    ada = await identity_again(parley, ada.user_id)
    started = await parley.turns.say(ada, question)
    text, end = await answer(parley, started.generation_id)
    assert end == "done"
    assert expected(question).startswith(text)
    allowance = await parley.ledger.allowance(ada.user_id, limit)
    assert (allowance.used, allowance.held) == (limit, 0)


async def test_too_fast_and_too_many_are_refused_with_a_time(parley: Parley) -> None:
    ada = await person(parley)
    plan = await plan_with(parley, requests_per_minute=2)
    await parley.accounts.set_plan(ada.user_id, plan)
    ada = await identity_again(parley, ada.user_id)
    for _ in range(2):
        await parley.turns.say(ada, script(tokens=1, rate=0, seed=1))
    with pytest.raises(TurnError) as error:
        await parley.turns.say(ada, script(tokens=1, rate=0, seed=1))
    assert error.value.code == "rate_limited"
    assert "allows 2 messages a minute" in error.value.message
    assert 0 < (error.value.retry_after or 0) <= 60

    await plan_with(parley, concurrent_streams=1)
    eve = await person(parley, "eve@example.org")
    await parley.accounts.set_plan(eve.user_id, plan)
    eve = await identity_again(parley, eve.user_id)
    running = await parley.turns.say(eve, script(tokens=1000, rate=20, seed=1))
    with pytest.raises(TurnError) as busy:
        await parley.turns.say(eve, script(tokens=1, rate=0, seed=1))
    assert busy.value.code == "too_many_streams"
    assert "allows 1 answer at a time" in busy.value.message
    await parley.turns.stop(eve, running.generation_id)
    await answer(parley, running.generation_id)
    await asyncio.sleep(0.1)
    await parley.turns.say(eve, script(tokens=1, rate=0, seed=1))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_input"),
        (" \n\t ", "empty_input"),
        ("\x00\x01\x02", "empty_input"),
        ("x" * 200_000, "input_too_long"),
    ],
)
async def test_unusable_input_is_refused_and_leaves_no_trace(parley: Parley, text: str, code: str) -> None:
    ada = await person(parley)
    with pytest.raises(TurnError) as error:
        await parley.turns.say(ada, text)
    assert error.value.code == code
    assert await parley.threads.recent(ada) == []
    assert (await parley.ledger.allowance(ada.user_id, None)).held == 0


@pytest.mark.parametrize("text", ["🦜🦜🦜", "a\x00b\x07c", "\ud800 alone", "שלום עולם"])
async def test_odd_input_is_answered(parley: Parley, text: str) -> None:
    ada = await person(parley)
    started = await parley.turns.say(ada, text)
    _, end = await answer(parley, started.generation_id)
    assert end == "done"


async def test_another_persons_things_are_not_found(parley: Parley) -> None:
    ada, eve = await person(parley), await person(parley, "eve@example.org")
    started = await parley.turns.say(ada, script(tokens=5, rate=0, seed=1))
    for attempt in (
        parley.turns.say(eve, "hello", started.thread_id),
        parley.turns.regenerate(eve, str(started.answer_id)),
        parley.turns.stop(eve, started.generation_id),
    ):
        with pytest.raises(TurnError) as error:
            await attempt
        assert (error.value.code, error.value.status) == ("not_found", 404)


async def test_an_unknown_model_is_named(parley: Parley) -> None:
    ada = await person(parley)
    with pytest.raises(TurnError) as error:
        await parley.turns.say(ada, "hello", model="gpt-17")
    assert (error.value.code, error.value.status) == ("model_unknown", 404)
    assert "gpt-17" in error.value.message


async def test_a_refused_question_is_shown_costs_nothing_and_waits_for_review(parley: Parley) -> None:
    ada = await person(parley)
    secret = "my key is " + "AKIA" + "Q7R3ZK5TWM2X6PDB" + ", what is wrong with it?"
    started = await parley.turns.say(ada, secret)
    assert await answer(parley, started.generation_id) == ("", "refused")
    view = await parley.threads.open(ada, str(started.thread_id))
    assert view.messages[-1].status == "refused"
    assert view.messages[-1].error
    assert (await parley.ledger.allowance(ada.user_id, None)).used == 0
    assert [review.generation_id for review in await parley.reviews.waiting(10)] == [started.generation_id]

    follow_up = await parley.turns.say(ada, question := script(tokens=3, rate=0, seed=1), started.thread_id)
    await answer(parley, follow_up.generation_id)
    read = (await parley.generations.view(ada, follow_up.generation_id)).prompt_tokens
    assert read == await prompt_tokens(parley, question), "the model never reads what was refused"

    with pytest.raises(TurnError) as error:
        await parley.turns.call(ada, [Message("user", secret), Message("assistant", "ok"), Message("user", "go on")])
    assert error.value.code == "content_refused"


async def test_an_engine_that_dies_in_mid_answer_is_asked_to_go_on(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=120, rate=0, seed=8, drop_at=50)
    started = await parley.turns.say(ada, question)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    view = await parley.generations.view(ada, started.generation_id)
    assert view.completion_tokens == 120


async def test_two_viewers_one_late_see_the_same(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=150, rate=300, seed=8)
    started = await parley.turns.say(ada, question)

    async def late() -> tuple[str, str]:
        await asyncio.sleep(0.2)
        return await answer(parley, started.generation_id, offset=17)

    first, second = await asyncio.gather(answer(parley, started.generation_id), late())
    assert first == (expected(question), "done")
    assert second == (expected(question)[17:], "done")


async def test_a_restart_in_mid_answer_goes_on_to_the_exact_end(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=200, rate=200, seed=8)
    started = await parley.turns.say(ada, question)
    async for piece in parley.viewer.follow(started.generation_id):
        if piece.offset > 200:
            break
    await parley.ownership.close()  # As when the process goes: tasks end where they are, leases are given back.
    await goes_on(parley)
    assert await answer(parley, started.generation_id) == (expected(question), "done")
    view = await parley.generations.view(ada, started.generation_id)
    assert (view.completion_tokens, view.receipt["attempts"]) == (200, 2)
    assert (await parley.ledger.allowance(ada.user_id, None)).used == await prompt_tokens(parley, question) + 200


async def identity_again(parley: Parley, user_id: str):  # type: ignore[no-untyped-def]
    """The identity as the next request would see it."""
    key = await parley.accounts.make_key(user_id, "test")
    identity = await parley.accounts.by_key(key)
    assert identity is not None
    return identity


@pytest.mark.parametrize("where", ["text", "reasoning", "calls"])
async def test_a_blocked_answer_is_settled_reviewed_and_leaves_its_place(parley: Parley, where: str) -> None:
    key = "AKIA" + "Q7R3ZK5TWM2X6PDB"
    said = f"It is {key} , said the model, and went on for a while."
    blocked = {
        "text": {"text": said},
        "reasoning": {"reasoning": said, "text": "Nothing else."},
        "calls": {"text": "Let me see.", "calls": [{"name": "calculator", "arguments": {"expression": key}}]},
    }[where]
    await parley.plans.save("one", "One", None, 6_000, 1)
    made = await person(parley)
    await parley.accounts.set_plan(made.user_id, "one")
    ada = await parley.accounts.by_key(await parley.accounts.make_key(made.user_id, "test"))
    assert ada is not None
    question = json.dumps({"script": {**blocked, "rate": 0}}).replace("AKIA", "\\u0041KIA")  # past the input check
    started = await parley.turns.say(ada, question)
    text, end = await asyncio.wait_for(answer(parley, started.generation_id), 10)
    assert end == "refused" and key not in text
    view = await parley.generations.view(ada, started.generation_id)
    assert view.status == "refused" and "looks like a key" in view.error
    [review] = await parley.db.query("SELECT generation_id, stage FROM review")
    assert dict(review) == {"generation_id": started.generation_id, "stage": "output"}
    [step] = await parley.steps.of(started.generation_id)
    assert step.status == "refused"
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (view.prompt_tokens + view.completion_tokens, 0)
    again = await parley.turns.say(ada, script(tokens=3, rate=0, seed=1))  # its place is free
    assert (await answer(parley, again.generation_id))[1] == "done"
