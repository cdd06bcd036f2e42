"""The reader of the other processes' posts when its server goes away, and when what it hears makes no sense."""

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from chat_app.data.log import shard_reader, valkey_scripts
from chat_app.data.log.base import Piece
from chat_app.data.log.shard_reader import shard_of
from chat_app.data.log.valkey import ValkeyLog
from tests.data.conftest import Apart
from tests.data.logs import watch


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """One that nothing was logged with yet: else it writes to what an earlier test has set up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_reader, "logger", structlog.get_logger("chat_app.data.log.shard_reader"))
        yield


Logged = list[MutableMapping[str, Any]]


async def until(holds: Callable[[], object]) -> None:
    sleep = asyncio.sleep
    async with asyncio.timeout(20):
        while not holds():
            await sleep(0.002)


def said(logged: Logged) -> list[tuple[str, str]]:
    return [(entry["log_level"], entry["event"]) for entry in logged]


async def test_each_loss_is_said_once_and_its_pauses_double_up_to_a_second(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, sleep = list[float](), asyncio.sleep

    async def no_longer(seconds: float) -> None:
        if seconds >= 0.05:  # the reader's; the test itself looks more often
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_longer)
    lost, again = ("warning", "generation log lost"), ("info", "generation log reached again")
    with capture_logs() as logged:
        for before in ([], [lost, again]):
            apart.way.mode = "reset"
            await until(lambda: len(pauses) >= 7)
            assert pauses[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
            apart.way.mode = "pass"
            await until(lambda: said(logged)[-1:] == [again])
            assert said(logged) == [*before, lost, again]
            pauses.clear()


async def test_a_defect_is_reported_and_what_was_missed_is_made_good(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apart.near.open("g", 1)
    tail = apart.far.tail("g")
    await apart.near.append("g", 1, 0, "before ")
    assert await asyncio.wait_for(anext(tail), 10) == Piece(0, "before ")

    def fail(_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a defect")

    monkeypatch.setattr(apart.far._reader, "_feed", fail)
    with capture_logs() as logged:
        await apart.near.append("g", 1, 7, "missed")
        assert await asyncio.wait_for(anext(tail), 10) == Piece(7, "missed")
    assert said(logged) == [("error", "generation log reader failed"), ("info", "generation log reached again")]
    assert logged[0]["exc_info"]
    await tail.aclose()


async def test_a_history_that_cannot_be_read_after_a_reset_is_raised_to_who_waits_for_it(apart: Apart) -> None:
    await apart.near.open("g", 1)
    await apart.near.append("g", 1, 0, "text")
    tail = apart.far.tail("g")
    assert await asyncio.wait_for(anext(tail), 10) == Piece(0, "text")
    waiting = asyncio.ensure_future(anext(tail))
    await apart.server.delete(f"{valkey_scripts.TEXT}g")
    await apart.server.lpush(f"{valkey_scripts.TEXT}g", "no text")
    await apart.server.xadd(f"{valkey_scripts.SHARD}{shard_of('g')}", {f"g:0:{valkey_scripts.RESET}": ""})
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await asyncio.wait_for(waiting, 10)


async def test_a_server_that_holds_something_else_there_is_not_called_away(apart: Apart) -> None:
    await apart.server.delete(valkey_scripts.CONTROL)
    await apart.server.set(valkey_scripts.CONTROL, "no stream")
    log = ValkeyLog(f"redis://127.0.0.1:{apart.way.port}")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await log.start()
    await log.close()
    await apart.server.delete(valkey_scripts.CONTROL)


async def test_text_that_was_missed_is_found_by_comparing(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.data.log.shard_reader.BLOCK_S", 0.05)
    log = ValkeyLog(f"redis://127.0.0.1:{apart.way.port}")
    await log.start()
    monkeypatch.setattr(log._reader, "_feed", lambda fields: None)  # these posts never arrive
    looks, compare = list[bool](), log._reader._compare

    async def noted(*, quiet_only: bool) -> None:
        looks.append(quiet_only)
        await compare(quiet_only=quiet_only)

    monkeypatch.setattr(log._reader, "_compare", noted)
    await apart.near.open("g", 1)
    tail = log.tail("g")
    text = ""
    for word in ("one ", "two ", "three"):
        await apart.near.append("g", 1, len(text), word)
        assert await asyncio.wait_for(anext(tail), 10) == Piece(len(text), word)
        text += word
    assert set(looks) == {True}
    await tail.aclose()
    await log.close()


async def test_what_is_heard_is_heard_once_and_asked_for_only_when_it_has_been_quiet_for_long(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, reader = list[str](), apart.far._reader

    def note(name: str) -> None:
        really = getattr(reader, name)

        def noted(*about: object, **how: object) -> object:
            heard.append(name)
            return really(*about, **how)

        monkeypatch.setattr(reader, name, noted)

    for name in ("_feed", "_obey", "_compare"):
        note(name)
    await apart.far.open("mine", 1)
    await apart.near.open("g", 1)
    viewer = asyncio.create_task(watch(apart.far, "g"))
    await until(lambda: f"{valkey_scripts.SHARD}{shard_of('g')}" in reader._positions)
    for n in range(3):
        await apart.near.append("g", 1, n, str(n))
        await until(lambda: apart.far._mirrors.items()[-1][1].length > n)  # noqa: B023 (it is over by the next)
    await apart.near.request_stop("mine")
    await asyncio.wait_for(apart.far.stop_requested("mine").wait(), 10)
    await apart.near.end("g", 1, "done")
    assert (await asyncio.wait_for(viewer, 10))[:2] == ("012", "done")
    assert heard == ["_feed"] * 3 + ["_obey", "_feed"]
