"""The window keeps the newest part that fits, on a beginning that does not move from turn to turn."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.prompts.prompt import Prompt, build
from chat_app.prompts.window import CHARS_A_TOKEN, STEP, TooLong, fit
from inference.protocol import Message, Sampling

SYSTEM = Message("system", "be kind")


async def words(messages: Sequence[Message]) -> int:
    return sum(len(message.content.split()) + 1 for message in messages)


def conversation(lengths: Sequence[int]) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(roles[at % 2], " ".join(["w"] * length)) for at, length in enumerate(lengths)]


async def test_everything_is_kept_while_it_fits() -> None:
    window = await fit([SYSTEM], conversation([3, 4, 5]), context=100, reserve=20, count=words)
    assert (window.kept, window.dropped) == (3, 0)
    assert window.messages[0] == SYSTEM
    assert window.tokens == await words(window.messages)


async def test_one_count_is_enough_while_it_fits() -> None:
    calls = 0

    async def counted(messages: Sequence[Message]) -> int:
        nonlocal calls
        calls += 1
        return await words(messages)

    await fit([SYSTEM], conversation([3] * 21), context=1000, reserve=20, count=counted)
    assert calls == 1


async def test_the_cut_stays_where_it_is_for_several_turns() -> None:
    said = conversation([9] * 41)
    cuts = []
    for turn in range(21, 41, 2):
        window = await fit([SYSTEM], said[:turn], context=200, reserve=50, count=words)
        cuts.append(window.dropped)
    assert all(cut % STEP == 0 for cut in cuts)
    assert len(set(cuts)) <= len(cuts) // 2 + 1


async def test_a_last_message_that_does_not_fit_is_an_error_with_numbers() -> None:
    with pytest.raises(TooLong) as error:
        await fit([SYSTEM], conversation([500]), context=100, reserve=20, count=words)
    assert error.value.room == 80
    assert error.value.tokens == 504


async def test_a_very_long_thread_is_not_counted_whole() -> None:
    most = 0

    async def counted(messages: Sequence[Message]) -> int:
        nonlocal most
        most = max(most, sum(len(message.content) for message in messages))
        return await words(messages)

    window = await fit([SYSTEM], conversation([50] * 4001), context=1000, reserve=200, count=counted)
    assert most <= 1000 * CHARS_A_TOKEN + len(SYSTEM.content)
    assert (window.dropped % STEP, window.tokens <= 800) == (0, True)
    assert await words([SYSTEM, *conversation([50] * (window.kept + STEP))]) > 800


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(40, 400))
async def test_the_result_fits_and_no_earlier_cut_would(lengths: list[int], context: int) -> None:
    said = conversation(lengths)
    reserve = context // 4
    try:
        window = await fit([SYSTEM], said, context, reserve, words)
    except TooLong:
        assert await words([SYSTEM, said[-1]]) > context - reserve
        return
    assert window.tokens <= context - reserve
    assert window.messages[-1] == said[-1]
    assert window.kept + window.dropped == len(said)
    if window.dropped:
        earlier = max(0, window.dropped - STEP) if window.dropped % STEP == 0 else window.dropped // STEP * STEP
        assert await words([SYSTEM, *said[earlier:]]) > context - reserve


async def test_a_program_that_brings_its_own_system_prompt_keeps_it() -> None:
    own = Message("system", "you are a parrot")
    prompt = await build(
        [own, Message("user", "hi")],
        system_prompt="be kind",
        context=100,
        asked=Sampling(max_tokens=500),
        most_answer=60,
        route="asked",
        weight=1,
        count=words,
    )
    assert prompt.window.messages[0] == own
    assert prompt.sampling.max_tokens == 60
    assert prompt.worst_case == prompt.window.tokens + 60


async def test_a_prompt_survives_its_journey_through_json() -> None:
    prompt = await build(
        [Message("user", "zażółć 🦜\n")],
        system_prompt="",
        context=100,
        asked=Sampling(max_tokens=5, temperature=0.0, seed=7, stop=("a", "\n")),
        most_answer=60,
        route="default",
        weight=3,
        count=words,
    )
    assert Prompt.from_json(prompt.to_json()) == prompt
