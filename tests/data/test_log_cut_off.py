"""A store that cannot be reached for a while: what a process makes of the logs that it writes itself."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

from chat_app.data.log import valkey_scripts
from chat_app.data.log.base import GenerationLog, LogUnavailable, Piece
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import MOST_ENDS, ValkeyLog
from tests.faults.proxy import FaultProxy, at_port, port_of


@dataclass(slots=True)
class Cut:
    """A log whose store goes away and comes back."""

    log: GenerationLog
    off: Callable[[], object]
    on: Callable[[], object]


@pytest.fixture(params=["sqlite", "valkey"])
async def cut(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[Cut]:
    if request.param == "sqlite":
        file = SqliteLog(home / "log.db")
        await file.start()
        await file._write(lambda connection: connection.execute("PRAGMA busy_timeout = 50").fetchall())
        other = sqlite3.connect(home / "log.db", isolation_level=None)
        yield Cut(file, partial(other.execute, "BEGIN IMMEDIATE"), partial(other.execute, "ROLLBACK"))
        other.close()
        await file.close()
        return
    url = request.getfixturevalue("redis_url")
    async with FaultProxy(port_of(url)) as way:
        log = ValkeyLog(at_port(url, way.port))
        await log.start()
        yield Cut(log, partial(setattr, way, "mode", "reset"), partial(setattr, way, "mode", "pass"))
        await log.close()


async def test_who_could_not_end_a_log_is_its_writer_no_more(cut: Cut) -> None:
    await cut.log.open("g", 1)
    await cut.log.append("g", 1, 0, "text")
    cut.off()
    with pytest.raises(LogUnavailable):
        await cut.log.end("g", 1, "done")
    assert cut.log._mirrors.items() == []  # type: ignore[attr-defined]
    assert len(cut.log._stops) == 0  # type: ignore[attr-defined]
    cut.on()
    assert await cut.log.open("g", 1, "text") == "text"
    await cut.log.end("g", 1, "done")
    assert await cut.log.read("g") == Piece(0, "text", "done")


async def test_a_stop_in_the_writers_own_process_is_heard_all_the_same(cut: Cut) -> None:
    await cut.log.open("g", 1)
    await cut.log.open("h", 1)
    cut.off()
    with pytest.raises(LogUnavailable):
        await cut.log.request_stop("g")
    assert cut.log.stop_requested("g").is_set()
    assert not cut.log.stop_requested("h").is_set()
    cut.on()


async def test_an_opening_that_fails_is_forgotten_but_for_who_writes_already(cut: Cut) -> None:
    await cut.log.open("g", 1)
    stop = cut.log.stop_requested("g")
    cut.off()
    for name in ("g", "h"):
        with pytest.raises(LogUnavailable):
            await cut.log.open(name, 1)
    assert [name for name, _ in cut.log._mirrors.items()] == ["g"]  # type: ignore[attr-defined]
    assert len(cut.log._stops) == 1  # type: ignore[attr-defined]
    assert cut.log.stop_requested("g") is stop
    cut.on()


async def test_an_end_gives_up_on_a_server_that_keeps_losing_the_log(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, opened = ValkeyLog(redis_url), list[str]()
    await log.start()
    async with redis.asyncio.Redis.from_url(redis_url) as server:

        async def lose() -> None:
            await server.delete(f"{valkey_scripts.HASH}g", f"{valkey_scripts.TEXT}g")

        really_open = log.open

        async def open_in_vain(generation: str, fence: int, text: str = "") -> str:
            opened.append(await really_open(generation, fence, text))
            await lose()
            return opened[-1]

        await log.open("g", 1, "text")
        await lose()
        monkeypatch.setattr(log, "open", open_in_vain)
        with pytest.raises(LogUnavailable, match="keeps losing"):
            await log.end("g", 1, "done")
    assert opened == ["text"] * MOST_ENDS
    assert log._mirrors.items() == []
    await log.close()
