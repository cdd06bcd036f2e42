"""The prompts that an engine remembers."""

from collections.abc import Sequence

import pytest

from inference.engines.prompts import MOST, Prompts
from inference.protocol import EngineDied, Message, Tool


async def test_a_prompt_is_read_once_and_the_one_not_asked_for_longest_is_forgotten() -> None:
    read: list[str] = []

    async def tokens(messages: Sequence[Message], continue_from: str, tools: Sequence[Tool]) -> list[int]:
        read.append(messages[0].content + continue_from)
        return [len(read)]

    prompts = Prompts(tokens)

    async def ask(text: str, so_far: str = "") -> list[int]:
        return await prompts.tokens([Message("user", text)], so_far)

    assert await ask("0") == await ask("0") == [1]
    assert await ask("0", "so far") == [2]
    for number in range(1, MOST - 1):
        await ask(str(number))
    assert await ask("0") == [1]
    await ask("one more")
    assert await ask("0") == [1]
    assert await ask("0", "so far") == [MOST + 2]
    prompts.clear()
    assert await ask("0") == [MOST + 3]
    assert len(read) == MOST + 3


async def test_a_prompt_that_could_not_be_read_is_tried_again() -> None:
    troubles = [EngineDied("gone")]

    async def tokens(messages: Sequence[Message], continue_from: str, tools: Sequence[Tool]) -> list[int]:
        if troubles:
            raise troubles.pop()
        return [7]

    prompts = Prompts(tokens)
    with pytest.raises(EngineDied):
        await prompts.tokens([Message("user", "x")], "")
    assert await prompts.tokens([Message("user", "x")], "") == [7]
