"""An answer that another owner goes on with: its length, its tokens and what of them was cached."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from chat_app.accounts.identity import Identity
from chat_app.sessions.generations import GenerationView
from chat_app.turn import Started
from chat_app.wiring import Parley
from inference.protocol import Chunk, Message, Request, Sampling
from tests.parley import answer, expected, goes_on, person, script, so_far


async def taken_over(parley: Parley, started: Started) -> None:
    """The process goes when some of the text was read, and another goes on."""
    await so_far(parley, started.generation_id, more_than=100)
    await parley.ownership.close()
    await goes_on(parley)


async def ended(parley: Parley, who: Identity, started: Started, attempts: int) -> GenerationView:
    assert (await answer(parley, started.generation_id))[1] == "done"
    view = await parley.generations.view(who, started.generation_id)
    assert view.receipt["attempts"] == attempts
    return view


async def test_it_is_no_longer_than_was_asked_for(parley: Parley) -> None:
    ada = await person(parley)
    question = script(tokens=200, rate=80, seed=1)
    started = await parley.turns.call(ada, [Message("user", question)], sampling=Sampling(max_tokens=60))
    await taken_over(parley, started)
    view = await ended(parley, ada, started, attempts=2)
    assert (view.completion_tokens, view.receipt["finish"]) == (60, "length")
    said, _ = await answer(parley, started.generation_id)
    assert expected(question).startswith(said)
    assert len(said.split()) == 60


async def test_what_was_thought_before_is_charged(parley: Parley) -> None:
    ada = await person(parley)
    thoughts = " ".join(f"thought{n}" for n in range(40)) + "\n"
    question = script(tokens=60, rate=80, seed=1, reasoning=thoughts)
    undisturbed = await ended(parley, ada, await parley.turns.say(ada, question), attempts=1)
    assert undisturbed.completion_tokens == 100
    started = await parley.turns.say(ada, question)
    await taken_over(parley, started)
    view = await ended(parley, ada, started, attempts=2)
    assert (view.prompt_tokens, view.completion_tokens) == (undisturbed.prompt_tokens, 100)
    month = await parley.ledger.allowance(ada.user_id, None)
    assert (month.used, month.held) == (2 * (undisturbed.prompt_tokens + 100), 0)


async def test_what_the_second_owner_found_cached_is_no_cached_prompt(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    stream = parley.client.stream

    async def cached(request: Request) -> AsyncGenerator[Chunk, None]:
        async for chunk in stream(request):
            yield replace(chunk, usage=chunk.usage and replace(chunk.usage, cached_tokens=5))

    monkeypatch.setattr(parley.client, "stream", cached)
    question = script(tokens=60, rate=80, seed=1)
    assert (await ended(parley, ada, await parley.turns.say(ada, question), attempts=1)).cached_tokens == 5
    started = await parley.turns.say(ada, question)
    await taken_over(parley, started)
    assert (await ended(parley, ada, started, attempts=2)).cached_tokens == 0


async def test_with_all_of_its_tokens_written_no_engine_is_asked_for_more(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    asked, stream, written = list[Request](), parley.client.stream, asyncio.Event()

    async def never_ending(request: Request) -> AsyncGenerator[Chunk, None]:
        asked.append(request)
        async for chunk in stream(request):
            yield replace(chunk, finish=None, usage=None)
        written.set()  # Who asks for the next chunk has written this one.
        await asyncio.Event().wait()

    question = script(tokens=200, rate=0, seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(parley.client, "stream", never_ending)
        started = await parley.turns.call(ada, [Message("user", question)], sampling=Sampling(max_tokens=60))
        await asyncio.wait_for(written.wait(), 10)
        before = (await parley.log.read(started.generation_id)).text
        await parley.ownership.close()
        await goes_on(parley)
        view = await asyncio.wait_for(ended(parley, ada, started, attempts=2), 10)
    assert (view.completion_tokens, view.receipt["finish"]) == (60, "length")
    assert await answer(parley, started.generation_id) == (before, "done")
    assert len(before.split()) == 60
    assert len(asked) == 1
