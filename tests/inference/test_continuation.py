"""The client that goes on when its engine dies: exact text, exact count, and an end to its patience."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
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


async def test_it_is_there_soon_after_its_engine_is() -> None:
    away = Away(time.monotonic() + 1.5)
    chunks = [chunk async for chunk in SteadyClient(away).stream(request("hello"))]
    assert text_of(chunks) == "here"
    assert away.asked[1] - away.asked[0] < 0.04  # Another replica may be there at once.
    assert max(later - one for one, later in pairwise(away.asked)) < 0.3
    assert len(away.asked) < 15
