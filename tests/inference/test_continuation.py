"""The client that goes on when its engine dies: exact text, exact count, and an end to its patience."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from inference.client import InferenceClient
from inference.continuation import SteadyClient
from inference.engines.scripted import scripted_text
from inference.protocol import (
    BadRequest,
    Chunk,
    EngineDied,
    Message,
    ModelCard,
    Overloaded,
    QueuePosition,
    Request,
    Tool,
    Usage,
)
from tests.inference.conftest import StartService, request, script, text_of


@pytest.fixture
async def client(start_service: StartService) -> AsyncIterator[InferenceClient]:
    _, url = await start_service()
    made = InferenceClient(url)
    yield made
    await made.close()


@pytest.mark.parametrize(("max_tokens", "finish"), [(200, "stop"), (60, "length")])
async def test_an_answer_survives_its_engine(client: InferenceClient, max_tokens: int, finish: str) -> None:
    question = script(tokens=90, seed=4, rate=2000, drop_at=37)
    chunks = [chunk async for chunk in SteadyClient(client).stream(request(question, max_tokens=max_tokens))]
    whole = scripted_text({"tokens": 90, "seed": 4})
    assert whole.startswith(text_of(chunks))
    assert (text_of(chunks) == whole) == (finish == "stop")
    last = chunks[-1]
    assert last.finish == finish
    assert last.usage is not None
    assert last.usage.completion_tokens == sum(chunk.tokens for chunk in chunks) == min(90, max_tokens)


async def test_patience_ends(client: InferenceClient) -> None:
    began = time.monotonic()
    with pytest.raises(EngineDied):
        _ = [chunk async for chunk in SteadyClient(client, 0.3).stream(request(script(drop_at=0)))]
    with pytest.raises(Overloaded):
        _ = [chunk async for chunk in SteadyClient(client, 0.3).stream(request(script(refuse="overloaded")))]
    assert time.monotonic() - began < 5
    gone = SteadyClient(InferenceClient(lambda: ""), 0.2)
    with pytest.raises(EngineDied):
        await gone.count("scripted", [Message("user", "x")])
    with pytest.raises(EngineDied):
        await gone.models()


@pytest.mark.parametrize("trouble", [{"drop_at": 0}, {"refuse": "overloaded"}])
async def test_a_caller_may_have_less_patience(client: InferenceClient, trouble: dict[str, object]) -> None:
    async with asyncio.timeout(10):
        with pytest.raises((EngineDied, Overloaded)):
            _ = [chunk async for chunk in SteadyClient(client).stream(request(script(**trouble)), lambda: 0.2)]
        with pytest.raises(EngineDied):
            await SteadyClient(InferenceClient(lambda: "")).count("scripted", [Message("user", "x")], patience=0.2)


async def test_patience_is_asked_for_at_each_failure() -> None:
    """Who has delivered the beginning of an answer cannot go elsewhere with it any more."""
    seconds: list[float | None] = [None, 0.0]
    breaks = Breaks((), (), (Chunk("too late", 2, "stop"),))
    with pytest.raises(EngineDied):
        _ = [chunk async for chunk in SteadyClient(breaks).stream(request("hello"), lambda: seconds.pop(0))]
    assert (seconds, len(breaks.asked)) == ([], 2)


async def test_what_will_not_get_better_is_not_tried_again(client: InferenceClient) -> None:
    began = time.monotonic()
    with pytest.raises(BadRequest):
        _ = [chunk async for chunk in SteadyClient(client).stream(request(script(refuse="bad")))]
    assert time.monotonic() - began < 5


class Away:
    """A client whose engine is gone until `back`, and then answers."""

    def __init__(self, back: float) -> None:
        self.back = back
        self.asked: list[float] = []

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(time.monotonic())
        if self.asked[-1] < self.back:
            raise EngineDied("away")
        yield Chunk("here", 1, "stop")

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int:
        raise NotImplementedError

    async def models(self) -> list[ModelCard]:
        raise NotImplementedError

    async def queue_positions(self) -> dict[str, QueuePosition]:
        raise NotImplementedError


class Starting(Away):
    """A client whose questions beside the answer fail with these errors first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(0.0)
        self.errors = list(errors)

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return len(model) + len(messages) + len(continue_from) + len(tools)

    async def models(self) -> list[ModelCard]:
        if self.errors:
            raise self.errors.pop(0)
        return [ModelCard("m", 1)]


@pytest.mark.parametrize("patience", [None, 5.0, math.inf])
async def test_an_engine_that_is_just_being_started_is_waited_for(patience: float | None) -> None:
    said, tools = [Message("user", "x")] * 20, [Tool("t")] * 300
    away = Starting(EngineDied("away"), Overloaded("loading", 30.0), EngineDied("away"))
    async with asyncio.timeout(10):
        assert await SteadyClient(away).count("m", said, "y" * 4_000, tools, patience=patience) == 4_321
    assert away.errors == []


async def test_the_models_of_an_engine_that_is_just_being_started_are_waited_for() -> None:
    away = Starting(EngineDied("away"), Overloaded("loading", 30.0))
    async with asyncio.timeout(10):
        assert await SteadyClient(away).models() == [ModelCard("m", 1)]


async def test_what_no_engine_can_count_is_asked_once() -> None:
    refusing = Starting(BadRequest("no tools here"), BadRequest("no tools here"))
    with pytest.raises(BadRequest, match="no tools here"):
        await SteadyClient(refusing).count("m", [])
    with pytest.raises(BadRequest):
        await SteadyClient(refusing).models()
    assert refusing.errors == []


async def test_it_is_there_soon_after_its_engine_is() -> None:
    away = Away(time.monotonic() + 1.5)
    chunks = [chunk async for chunk in SteadyClient(away).stream(request("hello"))]
    assert text_of(chunks) == "here"
    assert away.asked[1] - away.asked[0] < 0.04  # Another replica may be there at once.
    assert max(later - one for one, later in pairwise(away.asked)) < 0.3
    assert len(away.asked) < 15


class Breaks:
    """A client whose first streams break off behind these chunks; the last one ends by itself."""

    def __init__(self, *streams: tuple[Chunk, ...], pause: float = 0.0) -> None:
        self.streams = list(streams)
        self.asked: list[Request] = []
        self.pause = pause

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        for chunk in self.streams.pop(0):
            await asyncio.sleep(self.pause)
            yield chunk
        if self.streams:
            raise EngineDied("broke off")

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int:
        raise NotImplementedError

    async def models(self) -> list[ModelCard]:
        raise NotImplementedError

    async def queue_positions(self) -> dict[str, QueuePosition]:
        raise NotImplementedError


async def steadily(client: Breaks, asked: Request, patience: float = 60.0) -> list[Chunk]:
    return [chunk async for chunk in SteadyClient(client, patience).stream(asked)]


async def test_a_death_behind_the_very_last_token_is_the_end() -> None:
    client = Breaks((Chunk("a", 1, prompt_tokens=5), Chunk("b", 2)), (Chunk("never", 1, "stop"),))
    chunks = await steadily(client, request("x", max_tokens=3))
    assert text_of(chunks) == "ab"
    assert (chunks[-1].finish, chunks[-1].usage) == ("length", Usage(5, 3))
    assert len(client.asked) == 1
    unsaid = await steadily(Breaks((Chunk("a", 1),), ()), request("x", max_tokens=1))
    assert unsaid[-1] == Chunk("", 0, "length", None)


async def test_each_part_goes_on_behind_all_that_came_before() -> None:
    client = Breaks(
        (Chunk("", 1, reasoning="why", prompt_tokens=5), Chunk("", 1, reasoning=", so")),
        (Chunk("a", 1, reasoning=".", prompt_tokens=7), Chunk("b", 1)),
        (Chunk("c", 1, "stop", Usage(12, 1, 9), prompt_tokens=9),),
    )
    asked = replace(request("x", max_tokens=10, continue_from="0"), continue_reasoning="hm ")
    chunks = await steadily(client, asked)
    assert [(one.continue_reasoning, one.continue_from) for one in client.asked] == [
        ("hm ", "0"),
        ("hm why, so", "0"),
        ("hm why, so.", "0ab"),
    ]
    assert [one.sampling.max_tokens for one in client.asked] == [10, 8, 6]
    assert [chunk.prompt_tokens for chunk in chunks] == [5, None, None, None, None]
    assert chunks[-1].usage == Usage(5, 5, 5)


async def test_the_usage_of_an_answer_that_did_not_break_is_left_as_it_is() -> None:
    client = Breaks((Chunk("a", 1, prompt_tokens=5), Chunk("b", 1, "stop", Usage(6, 9, 6))))
    chunks = await steadily(client, request("x"))
    assert chunks[-1].usage == Usage(6, 9, 6)
    nothing_came = Breaks((), (Chunk("b", 1, "stop", Usage(6, 9, 6), prompt_tokens=6),))
    (chunk,) = await steadily(nothing_came, request("x"))
    assert (chunk.usage, chunk.prompt_tokens) == (Usage(6, 9, 6), 6)


async def test_patience_begins_anew_with_all_that_comes() -> None:
    slow = Breaks(*((Chunk("a", 1), Chunk("b", 1)) for _ in range(3)), (Chunk("c", 1, "stop"),), pause=0.15)
    assert text_of(await steadily(slow, request("x"), patience=0.25)) == "abababc"


async def test_the_pause_between_two_tries_begins_anew_with_all_that_comes() -> None:
    away = [()] * 5
    client = Breaks(*away, (Chunk("a", 1),), (Chunk("b", 1, "stop"),))
    began = time.monotonic()
    async for chunk in SteadyClient(client).stream(request("x")):
        if not chunk.finish:
            began = time.monotonic()
    assert time.monotonic() - began < 0.04


async def test_a_refusal_is_not_waited_for_beyond_patience() -> None:
    class Busy(Breaks):
        async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
            raise Overloaded("full", 30.0)
            yield

    began = time.monotonic()
    with pytest.raises(Overloaded):
        await steadily(Busy(), request("x"), patience=0.2)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("asked_for", "paused"),
    [
        (7.5, [7.5, 7.5, 7.5, 7.5, 7.5, 7.5]),
        (0.15, [0.15, 0.2, 0.2, 0.2, 0.15, 0.2]),
        # Else one waiting answer would ask thousands of times a second.
        (0.0, [0.1, 0.2, 0.2, 0.2, 0.1, 0.2]),
        (-3.0, [0.1, 0.2, 0.2, 0.2, 0.1, 0.2]),
    ],
)
async def test_a_busy_engine_is_left_alone_for_as_long_as_it_asks_and_never_for_no_time(
    asked_for: float, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Breaks):
        async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
            self.asked.append(request)
            if len(self.asked) in (5, 7):
                yield Chunk("here", 1, "stop" if len(self.asked) == 7 else None)
            raise Overloaded("full", asked_for)

    pauses, sleep = list[float](), asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    assert text_of(await steadily(Busy(), request("x"))) == "herehere"
    assert pauses == paused


class Busy(Breaks):
    """A client that is asked too much at first."""

    def __init__(self, times: int, retry_after: float = 0.0) -> None:
        super().__init__((Chunk("here", 1, "stop"),))
        self.times, self.retry_after = times, retry_after

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if len(self.asked) < self.times:
            self.asked.append(request)
            raise Overloaded("busy", self.retry_after)
        async for chunk in super().stream(request):
            yield chunk


async def test_an_engine_that_is_busy_is_waited_for_until_patience_ends() -> None:
    assert text_of(await steadily(Busy(1), request("x"), patience=0.9)) == "here"
    busy = Busy(1_000, retry_after=30.0)
    async with asyncio.timeout(10):
        with pytest.raises(Overloaded):
            await steadily(busy, request("x"), patience=0.2)
    assert len(busy.asked) == 2  # Once more at the end of its patience, whatever the engine said.


async def test_a_death_before_the_very_last_token_is_not_the_end() -> None:
    client = Breaks((Chunk("a", 1, prompt_tokens=5), Chunk("b", 1)), (Chunk("c", 1, "length", Usage(7, 1)),))
    chunks = await steadily(client, request("x", max_tokens=3))
    assert (text_of(chunks), chunks[-1].usage) == ("abc", Usage(5, 3))
    assert [asked.sampling.max_tokens for asked in client.asked] == [3, 1]
