"""What another process writes, seen without waiting for the reader's next look at the store: while all is well, and
when the server has been out of reach."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from structlog.testing import capture_logs

from chat_app.data.log import valkey_scripts
from chat_app.data.log.base import LogUnavailable, Piece
from chat_app.data.log.shard_reader import shard_of
from chat_app.data.log.valkey import ValkeyLog
from tests.data.conftest import Apart
from tests.data.logs import watch


def failing(log: ValkeyLog, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the log has failed to reach its server."""
    failed, call = asyncio.Event(), log._call

    async def noticed(*args: Any) -> Any:
        try:
            return await call(*args)
        except LogUnavailable:
            failed.set()
            raise

    monkeypatch.setattr(log, "_call", noticed)
    return failed


async def test_what_another_process_writes_comes_as_it_is_written(apart: Apart) -> None:
    await apart.near.open("g", 1)
    with capture_logs() as logged:
        async with aclosing(apart.far.tail("g")) as tail:
            text = ""
            for word in ("one ", "two ", "three ", "four"):
                await apart.near.append("g", 1, len(text), word)
                text += word
                assert await asyncio.wait_for(anext(tail), 10) == Piece(len(text) - len(word), word)
            await apart.near.end("g", 1, "done")
            assert await asyncio.wait_for(anext(tail), 10) == Piece(len(text), "", "done")
    assert logged == []  # by the posts, and not because the reader fails and compares again and again


async def test_a_tail_that_begins_meanwhile_waits_for_the_history(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apart.near.open("g", 1)
    await apart.near.append("g", 1, 0, "text")
    await apart.near.end("g", 1, "done")
    failed = failing(apart.far, monkeypatch)
    apart.way.mode = "reset"
    viewer = asyncio.create_task(watch(apart.far, "g"))
    await asyncio.wait_for(failed.wait(), 10)
    apart.way.mode = "pass"
    assert (await asyncio.wait_for(viewer, 10))[:2] == ("text", "done")


async def test_a_tail_that_waits_for_the_history_ends_with_the_log(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = failing(apart.far, monkeypatch)
    apart.way.mode = "reset"
    viewer = asyncio.create_task(watch(apart.far, "g"))
    await asyncio.wait_for(failed.wait(), 10)
    await apart.far.close()
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(viewer, 10)


async def test_what_was_posted_and_forgotten_meanwhile_is_found_at_once(apart: Apart) -> None:
    await apart.near.open("g", 1)
    await apart.near.append("g", 1, 0, "before ")
    await apart.far.open("mine", 1)
    tail = apart.far.tail("g")
    assert await asyncio.wait_for(anext(tail), 10) == Piece(0, "before ")
    apart.way.mode = "reset"
    await apart.near.append("g", 1, 7, "meanwhile")
    await apart.near.end("g", 1, "done")
    await apart.near.request_stop("mine")
    for stream in (f"{valkey_scripts.SHARD}{shard_of('g')}", valkey_scripts.CONTROL):
        await apart.server.xtrim(stream, maxlen=0)
    apart.way.mode = "pass"
    assert await asyncio.wait_for(anext(tail), 10) == Piece(7, "meanwhile", "done")
    await asyncio.wait_for(apart.far.stop_requested("mine").wait(), 10)
    await tail.aclose()
