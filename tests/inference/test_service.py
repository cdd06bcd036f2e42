"""One engine behind its queue: what is charged to whom, what fits, and what is counted however a request ends."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from inference.engines.base import Capabilities
from inference.engines.scripted import ScriptedEngine
from inference.metrics import Board, Metrics
from inference.protocol import BadRequest, Chunk, ContextTooLong, Embeddings, EngineDied, Request, Usage
from inference.service import UNASKED, Service
from tests.inference.conftest import request, script, text_of, until


class Able(ScriptedEngine):
    """A scripted engine that differs in what it says of itself, and whose cache holds `cached` of whoever's prompt."""

    def __init__(self, cached: str = "", **capabilities: Any) -> None:
        super().__init__()
        self.cached = cached
        self._prompts = capabilities
        self.asked: list[Request] = []

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, **self._prompts)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        async with aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.usage and request.user == self.cached:
                    chunk = replace(chunk, usage=replace(chunk.usage, cached_tokens=chunk.usage.prompt_tokens))
                yield chunk


def serving(engine: ScriptedEngine | None = None, **options: Any) -> Service:
    engine = engine or Able()
    return Service(engine, Metrics(Board(), "m"), **options)


async def whole(service: Service, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in service.stream(asked)]


def of(user: str, words: int = 0, **directive: Any) -> Request:
    """A request whose prompt has about so many words."""
    directive.setdefault("tokens", 5)
    return replace(request(f"{'word ' * words}{script(**directive)}", max_tokens=200), user=user)


async def spent(service: Service, *requests: Request) -> list[float]:
    """How far each user's clock has gone on, while somebody else holds a slot all the time."""
    async with aclosing(service.stream(of("somebody", prefill_s=30))) as other:
        holding = asyncio.ensure_future(anext(other))
        await until(lambda: service.queue.running)
        for asked in requests:
            await whole(service, asked)
        clocks = [service.queue._users[asked.user].finish - service.queue._virtual for asked in requests]
        holding.cancel()
        await asyncio.wait({holding})
    return clocks


async def test_what_the_cache_held_is_not_charged() -> None:
    """Two people with the same long prompt: whose prompt was in the cache goes first the next time."""
    service = serving(Able("cached", slots=2))
    order: list[str] = []

    async def next_turn(user: str) -> None:
        async with aclosing(service.stream(of(user))) as chunks:
            await anext(chunks)
            order.append(user)

    async with aclosing(service.stream(of("somebody", tokens=200, rate=20))) as other:
        await anext(other)
        for user in ("cached", "plain"):
            await whole(service, of(user, words=300))
        blocker = asyncio.create_task(whole(service, of("blocker", tokens=40, rate=200)))
        await until(lambda: service.queue.running == 2)
        turns = [asyncio.create_task(next_turn(user)) for user in ("plain", "cached")]
        await until(lambda: service.queue.waiting == 2)
        await asyncio.gather(blocker, *turns)
    assert order == ["cached", "plain"]


async def test_the_clock_goes_by_what_was_read_and_written() -> None:
    """Neither by nothing nor by the worst case: 200 tokens may be written, 20 are."""
    service = serving(Able(slots=3))
    asked = of("a", words=100, tokens=20)
    prompt = len(await service.prompt(asked.messages))
    assert await spent(service, asked) == [prompt + 20]


async def test_vectors_are_charged_by_their_tokens() -> None:
    service = serving(Able(slots=3))
    async with aclosing(service.stream(of("somebody", tokens=200, rate=20))) as other:
        await anext(other)
        await service.embed(["one two three"], "a")
        assert service.queue._users["a"].finish - service.queue._virtual == 3
        assert service.metrics.tally.embedded_tokens == 3


async def test_vectors_take_no_room_in_the_cache_beside_what_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = of("somebody", tokens=200, rate=20)
    full = len(await ScriptedEngine().prompt(asked.messages)) + 200
    engine, held = Able(slots=3, kv_tokens=full), list[int]()
    service, embed = serving(engine), engine.embed

    async def watched(texts: Sequence[str]) -> Embeddings:
        held.append(service.queue.held)
        return await embed(texts)

    monkeypatch.setattr(engine, "embed", watched)
    async with aclosing(service.stream(asked)) as other:
        await anext(other)
        async with asyncio.timeout(5):
            await service.embed(["one two three"], "a")
        assert (service.queue.running, service.queue.held, held) == (1, full, [full])


async def test_a_prompt_that_fills_the_window_is_too_long_and_one_less_is_not() -> None:
    asked = of("a", words=40)
    prompt = len(await ScriptedEngine().prompt(asked.messages))
    with pytest.raises(ContextTooLong, match=f"{prompt} tokens"):
        await whole(serving(Able(context=prompt)), asked)
    chunks = await whole(serving(Able(context=prompt + 1)), asked)
    assert chunks[-1].usage == Usage(prompt, 1)
    assert chunks[-1].finish == "length"


async def test_a_length_that_nobody_limited_is_bounded_by_the_service_and_the_window() -> None:
    engine = Able()
    asked = request(script(tokens=3), max_tokens=0)
    await whole(serving(engine), asked)
    assert engine.asked[-1].sampling.max_tokens == UNASKED
    small = Able(context=100)
    await whole(serving(small), asked)
    prompt = len(await small.prompt(asked.messages))
    assert small.asked[-1].sampling.max_tokens == 100 - prompt


async def test_the_worst_case_of_prompt_and_answer_is_held_while_it_runs() -> None:
    service = serving()
    asked = of("a", rate=50)
    prompt = len(await service.prompt(asked.messages))
    async with aclosing(service.stream(asked)) as chunks:
        await anext(chunks)
        assert service.queue.held == prompt + 200
    assert (service.queue.held, service.queue.running) == (0, 0)


async def test_an_engine_that_died_is_reported_and_one_that_refused_is_not() -> None:
    died: list[bool] = []
    service = serving(died=lambda: died.append(True))
    for directive, kind in (({"refuse": "bad"}, BadRequest), ({"drop_at": 2, "rate": 1000}, EngineDied)):
        with pytest.raises(kind):
            await whole(service, of("a", **directive))
        assert len(died) == (kind is EngineDied)
    tally = service.metrics.tally
    assert (tally.requests, tally.refused, tally.failed, tally.completed, tally.cancelled) == (2, 1, 1, 0, 0)


async def test_who_leaves_behind_the_last_chunk_has_not_cancelled() -> None:
    service = serving()
    for leaves_at_the_end in (True, False):
        async with aclosing(service.stream(of("a", rate=1000))) as chunks:
            async for chunk in chunks:
                if bool(chunk.finish) == leaves_at_the_end:
                    break
    tally = service.metrics.tally
    assert (tally.completed, tally.cancelled, tally.last_cancel_stage) == (1, 1, "decode")
    assert service.queue.running == 0


async def test_text_is_gathered_for_who_asks_and_only_as_long_as_they_ask() -> None:
    service = serving()
    asked = of("a", tokens=40, rate=400)
    every = await whole(service, asked)
    gathered = await whole(service, replace(asked, gather_ms=1_000))
    briefly = await whole(service, replace(asked, gather_ms=1))
    assert text_of(every) == text_of(gathered) == text_of(briefly)
    assert len(gathered) <= 4 < len(briefly)


class Parting(Able):
    """It says which of its text is thought, like a server that knows its model."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        yield Chunk("<think>", 1)
        yield Chunk("so", 1, "stop", Usage(3, 2))


async def test_text_of_an_engine_that_parts_by_itself_is_left_alone() -> None:
    assert text_of(await whole(serving(Parting(parts=True)), of("a"))) == "<think>so"
    raw = await whole(serving(Parting()), of("a"))
    assert (raw[-1].reasoning, text_of(raw)) == ("so", "")


async def test_an_estimate_is_not_passed_off_as_what_the_engine_read() -> None:
    for counts in (True, False):
        chunks = await whole(serving(Able(counts=counts)), of("a"))
        assert (chunks[0].prompt_tokens is not None) == counts


async def test_what_a_model_thought_is_counted_apart() -> None:
    service = serving()
    await whole(service, of("a", reasoning="one two three", text="four", rate=20))
    assert service.metrics.tally.completion_tokens == 4
    assert 2 <= service.metrics.tally.reasoning_tokens <= 3


async def test_an_ability_that_is_missing_is_refused_before_a_place_is_taken() -> None:
    service = serving(Able(abilities=frozenset()))
    with pytest.raises(BadRequest, match="no embeddings"):
        await service.embed(["x"])
    with pytest.raises(BadRequest, match="no logprobs"):
        await whole(service, request("x", logprobs=1))
    assert service.queue.running == 0


async def test_what_was_read_and_how_soon_is_measured() -> None:
    service = serving(Able("cached", slots=1))
    used = (await whole(service, of("cached", words=30, prefill_s=0.2)))[-1].usage
    assert used is not None and used.prompt_tokens == used.cached_tokens > 30
    tally, board = service.metrics.tally, service.metrics._board
    assert (tally.prompt_tokens, tally.cached_tokens) == (used.prompt_tokens, used.cached_tokens)
    assert board.tokens.labels("m", "prompt")._value.get() == used.prompt_tokens
    took = board.ttft.labels("m")._sum.get()
    assert tally.prefill_s <= took < 60


async def test_an_engine_that_fails_as_nobody_foresaw_counts_as_failed() -> None:
    class Broken(Able):
        async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
            raise ZeroDivisionError
            yield

    service = serving(Broken())
    with pytest.raises(ZeroDivisionError):
        await whole(service, of("a"))
    tally = service.metrics.tally
    assert (tally.failed, tally.refused, tally.completed, service.queue.running) == (1, 0, 0, 0)
