"""Reads in the event loop's own thread: short ones happen there, long ones belong into a thread, for a while."""

import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_app.data.db import inline_reader
from chat_app.data.db.base import Statement
from chat_app.data.db.inline_reader import InlineReader, TooLong
from chat_app.data.db.sqlite import SqliteDatabase

ONE = "SELECT n FROM row WHERE id = 7"
ALL = "SELECT SUM(a.n * b.n) AS total FROM row a, row b"
ROWS = 1_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, n INTEGER)")
        connection.executemany("INSERT INTO row VALUES (?, ?)", [(n, n) for n in range(ROWS)])
    connection.close()
    return path


@pytest.fixture
async def reader(path: Path) -> AsyncIterator[InlineReader]:
    reader = InlineReader(path)
    await reader.start()
    yield reader
    await reader.close()


def read(sql: str) -> inline_reader.Work[object]:
    return lambda connection: connection.execute(sql).fetchall()[0][0]


async def test_a_short_read_happens_in_the_callers_thread_however_often(reader: InlineReader) -> None:
    threads = set()

    def work(connection: sqlite3.Connection) -> object:
        threads.add(threading.current_thread())
        return connection.execute(ONE).fetchone()[0]

    assert {reader.run(ONE, work) for _ in range(5_000)} == {7}
    assert threads == {threading.current_thread()}


async def test_a_long_read_is_broken_off_and_not_tried_again_for_a_while(
    reader: InlineReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.thread_time()
    with pytest.raises(TooLong):
        reader.run(ALL, read(ALL))
    assert time.thread_time() - begun < 0.02
    with pytest.raises(TooLong):
        reader.run(ALL, lambda _: pytest.fail("it was tried again"))
    assert reader.run(ONE, read(ONE)) == 7
    monkeypatch.setattr(inline_reader, "AVOIDED_S", 0.0)
    with pytest.raises(TooLong):
        reader.run(ALL + " ", read(ALL))
    assert reader.run(ALL + " ", read(ONE)) == 7


async def test_a_read_is_broken_off_after_twice_as_many_instructions_at_most(reader: InlineReader, path: Path) -> None:
    sums = (f"SELECT SUM(n) FROM row WHERE id < {most}" for most in range(1, ROWS, 10))
    sql, took = next((sql, took) for sql in sums if (took := instructions(path, sql)) > 2.2 * inline_reader.STEPS)
    assert took < 2.8 * inline_reader.STEPS
    with pytest.raises(TooLong):
        reader.run(sql, read(sql))


def instructions(path: Path, sql: str) -> int:
    """How many of its machine's instructions SQLite needs for a query."""
    took = 0

    def count() -> None:
        nonlocal took
        took += 1

    connection = sqlite3.connect(path)
    connection.set_progress_handler(count, 1)
    connection.execute(sql).fetchall()
    connection.close()
    return took


async def test_a_read_that_takes_long_in_few_instructions_goes_to_the_threads(reader: InlineReader) -> None:
    def busy(_: sqlite3.Connection) -> None:
        until = time.thread_time() + 2 * inline_reader.LONG_S
        while time.thread_time() < until:
            pass

    reader.run("search", busy)
    reader.run("search", busy)
    with pytest.raises(TooLong):
        reader.run("search", busy)


async def test_a_read_that_only_had_to_wait_for_the_machine_stays(reader: InlineReader) -> None:
    for _ in range(5):
        reader.run(ONE, lambda _: time.sleep(2 * inline_reader.LONG_S))
    assert reader.run(ONE, read(ONE)) == 7


async def test_it_cannot_write(reader: InlineReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.run("write", lambda connection: connection.execute("UPDATE row SET n = 0"))


async def test_the_database_reads_long_and_short_rows_alike_and_sees_every_batch(path: Path) -> None:
    database = SqliteDatabase(path)
    await database.start()
    total = sum(range(ROWS)) ** 2
    for _ in range(2):
        assert await database.query(ALL) == [{"total": total}]
    for n in range(50):
        await database.batch(Statement("UPDATE row SET n = $1 WHERE id = 7", (n,)))
        assert await database.query(ONE) == [{"n": n}]
    await database.close()


async def test_a_read_that_was_late_for_the_machine_is_judged_by_the_clock_again(reader: InlineReader) -> None:
    def busy(_: sqlite3.Connection) -> None:
        until = time.thread_time() + 2 * inline_reader.LONG_S
        while time.thread_time() < until:
            pass

    reader.run("search", lambda _: time.sleep(2 * inline_reader.LONG_S))
    reader.run("search", lambda _: None)
    reader.run("search", busy)  # The first time that it was late, as far as is known.
    reader.run("search", busy)
    with pytest.raises(TooLong):
        reader.run("search", busy)
