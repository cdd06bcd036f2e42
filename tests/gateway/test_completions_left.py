"""A program that goes away, at any moment of its call: what was begun is stopped, or goes on where it was detached."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from chat_app.gateway.app import api
from chat_app.gateway.completions_route import PATH, CompletionsRoute
from tests.gateway.leaving import SLOW, body, counted, held_up, leave, rows
from tests.gateway.served import Served
from tests.parley import script


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_while_the_turn_is_prepared_stops_it(
    served: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = counted(499)
    async with held_up(served, monkeypatch) as waits:
        leaving = asyncio.create_task(leave(served, body(SLOW, stream=stream), after=0.1))
        await asyncio.wait_for(waits.wait(), 10)
        await leaving
        async with asyncio.timeout(10):
            while counted(499) == gone:
                await asyncio.sleep(0.01)
    assert set((await rows(served)).values()) <= {"stopped"}
    month = await served.parley.ledger.allowance(served.who.user_id, None)
    assert month.held == 0
    assert month.used < 500


async def test_who_leaves_detached_while_the_turn_is_prepared_has_it_go_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_up(served, monkeypatch) as waits:
        leaving = asyncio.create_task(leave(served, body(), after=0.1, headers="X-Parley-Detach: True\r\n"))
        await asyncio.wait_for(waits.wait(), 10)
        await leaving
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while not (found := await rows(served)):
            await asyncio.sleep(0.02)
    assert list(found.values()) == ["done"]


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_without_a_word_stops_the_answer(
    served: Served, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await leave(served, body(SLOW, stream=stream), after=0.3)
    assert list((await rows(served)).values()) == ["stopped"]
    assert "unforeseen" not in caplog.text


class Cancelled:
    """A request of a server that ends the task together with the connection, and again while that is being seen to."""

    def __init__(self, served: Served, headers: dict[str, str], question: str = SLOW) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in {**served.bearer, **headers}.items()]
        self._scope = {"type": "http", "method": "POST", "path": PATH, "headers": raw}
        self._app = CompletionsRoute(lambda: served.parley).before(api(lambda: served.parley))
        self.sent = 0
        self._said = [{"type": "http.request", "body": body(question, stream=True), "more_body": False}]

    async def _receive(self) -> Any:
        if self._said:
            return self._said.pop()
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent += 1
        await asyncio.sleep(0)

    async def to_its_end(self) -> None:
        await asyncio.wait_for(self._app(self._scope, self._receive, self._send), 10)

    async def after(self, turns: int) -> None:
        """Run it for so many turns of the loop."""
        count = iter(range(turns))
        await self.until(lambda: next(count, None) is None)

    async def until(self, enough: Callable[[], bool]) -> None:
        task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        while not enough():
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task


async def test_a_request_that_is_cancelled_at_any_moment_leaves_nothing_running(served: Served) -> None:
    await served.parley.plans.save("wide", "Wide", None, 10_000, 500)
    await served.parley.accounts.set_plan(served.who.user_id, "wide")
    for turns in range(0, 200, 3):
        await Cancelled(served, {}).after(turns)
    found = await rows(served)
    assert len(found) > 5
    assert set(found.values()) == {"stopped"}


async def test_a_pipe_that_breaks_in_mid_stream_is_a_hang_up_and_no_error(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Cancelled, message: Any) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    monkeypatch.setattr(Cancelled, "_send", broken)
    await Cancelled(served, {}).to_its_end()
    assert list((await rows(served)).values()) == ["stopped"]
    assert "unforeseen" not in caplog.text


async def test_the_stop_of_a_cancelled_request_survives_another_cancellation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = type(served.parley.generations).view

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(0.05)
        return await view(*args)

    monkeypatch.setattr(type(served.parley.generations), "view", slow)
    request = Cancelled(served, {})
    await request.until(lambda: request.sent >= 2)
    assert list((await rows(served)).values()) == ["stopped"]


async def test_a_detached_request_that_is_cancelled_goes_on(served: Served) -> None:
    request = Cancelled(served, {"X-Parley-Detach": "true"}, script(tokens=20, rate=100))
    await request.until(lambda: request.sent >= 2)
    assert list((await rows(served)).values()) == ["done"]


@pytest.mark.parametrize(("headers", "end"), [({}, "stopped"), ({"X-Parley-Detach": "true"}, "done")])
async def test_a_request_that_is_cancelled_while_its_turn_is_prepared(
    served: Served, headers: dict[str, str], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_up(served, monkeypatch) as waits:
        await Cancelled(served, headers, script(tokens=20, rate=100)).until(waits.is_set)
    async with asyncio.timeout(10):
        while not (found := await rows(served)):
            await asyncio.sleep(0.02)
    assert list(found.values()) == [end]
