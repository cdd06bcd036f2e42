"""How much of a long chat is read: for the windows that are offered now, never for a guess."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chat_app.accounts.identity import Identity
from chat_app.sessions.thread_views import History, Said
from chat_app.settings import Settings
from chat_app.turn import Started, TurnError
from chat_app.turn.ask import Ask
from chat_app.wiring import Parley, lifespan
from inference.protocol import Chunk, Damaged, EngineDied, Message, Request
from tests.parley import answer, fleet_settings, person, script

SOMEBODY = Identity("u", "t", "somebody@example.org", "", "user", "free")
LONG = "x" * 6_000
"""Behind every question: eight of them lie within a window of 32,768 tokens, but far outside of one of 4,096."""


async def said(parley: Parley, who: Identity, thread_id: str | None = None, times: int = 1) -> Started:
    """The last of so many long turns in a thread, when it has ended."""
    for _ in range(times):
        started = await parley.turns.say(who, script(text="answer " + "y" * 1_000, rate=0) + LONG, thread_id=thread_id)
        assert (await answer(parley, started.generation_id))[1] == "done"
        thread_id = started.thread_id
    return started


async def window(parley: Parley, who: Identity, started: Started) -> tuple[int, int]:
    """Messages that this turn's model read, and those that were left out."""
    receipt = (await parley.generations.view(who, started.generation_id)).receipt
    return receipt["kept_messages"], receipt["dropped_messages"]


async def engine_trouble(parley: Parley, who: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that fails with its engine, after which nothing is known of the models."""

    async def damaged(_: Request) -> AsyncGenerator[Chunk, None]:
        raise Damaged("its file is damaged")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(parley.client, "stream", damaged)
        failed = await parley.turns.say(who, script(tokens=1, rate=0))
        assert (await answer(parley, failed.generation_id))[1] == "failed"


@pytest.mark.parametrize("column", ["embedded", "fleet"])
async def test_a_process_that_has_just_started_reads_all_that_fits(
    request: pytest.FixtureRequest, tmp_path: Path, scripted_engine: str, column: str
) -> None:
    chosen: dict[str, Any] = fleet_settings(request) if column == "fleet" else {}
    settings = Settings(
        home=tmp_path / "home",
        inference_url=scripted_engine,
        inference_key=SecretStr("engine-key"),
        default_model="scripted",
        export_minutes=0,
        **chosen,
    )
    async with lifespan(settings) as parley:
        ada = await person(parley)
        last = await said(parley, ada, times=8)
        assert await window(parley, ada, last) == (15, 0)
    async with lifespan(settings) as parley:
        last = await said(parley, ada, last.thread_id)
        assert await window(parley, ada, last) == (17, 0)
    async with lifespan(settings) as parley:
        again = await parley.turns.regenerate(ada, str(last.answer_id))
        assert (await answer(parley, again.generation_id))[1] == "done"
        assert await window(parley, ada, again) == (17, 0)


async def test_after_an_engines_trouble_all_that_fits_is_read(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(parley)
    last = await said(parley, ada, times=8)
    await engine_trouble(parley, ada, monkeypatch)
    assert await window(parley, ada, await said(parley, ada, last.thread_id)) == (17, 0)


async def test_without_an_engine_no_history_is_read_for_a_guess(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person(parley)
    last = await said(parley, ada)
    await engine_trouble(parley, ada, monkeypatch)
    models, asked = parley.engine.models, 0

    async def away_at_first():  # type: ignore[no-untyped-def]
        nonlocal asked
        asked += 1
        if asked == 1:
            raise EngineDied("not there yet")
        return await models()

    monkeypatch.setattr(parley.engine, "models", away_at_first)
    with pytest.raises(TurnError) as refused:
        await parley.turns.say(ada, script(tokens=1, rate=0), thread_id=last.thread_id)
    assert (refused.value.code, refused.value.status) == ("engine_unavailable", 503)
    assert await window(parley, ada, await said(parley, ada, last.thread_id)) == (3, 0)


@pytest.mark.parametrize("own", [(Message("user", "new"),), ()], ids=["a question", "an old question anew"])
def test_what_stands_before_the_question_has_its_places_in_the_thread(own: tuple[Message, ...]) -> None:
    """The question itself, which is the last of the history where it is an old one, has none."""
    earlier = tuple(Said("user", str(number), number) for number in (4, 5, 6))
    ask = Ask(SOMEBODY, "chat", own).behind(History(earlier, "m", 2))
    assert [message.content for message in ask.messages] == ["4", "5", "6", *(message.content for message in own)]
    assert ask.positions == ((4, 5, 6) if own else (4, 5))
    assert (ask.since, ask.since_model) == (2, "m")
