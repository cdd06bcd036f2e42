"""The threads behind SQLite: what shares a commit stands or falls alone, and who stops waiting harms nobody."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chat_app.data.db.group_commit import GROUP, Writer
from chat_app.data.db.readers import Readers
from chat_app.data.db.sqlite_file import FileClosed

PATIENCE_S = 20.0


class Gate:
    """Work that holds a thread until it is opened, so that what is handed in behind it forms one group."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, _: sqlite3.Connection) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE_S)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, PATIENCE_S)

    def open(self) -> None:
        self._open.set()


def put(name: str) -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO jar VALUES (?, 1)", (name,))
        return name

    return work


def make(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE jar (id TEXT PRIMARY KEY, n INTEGER)")
    connection.execute("CREATE TABLE lid (jar TEXT REFERENCES jar DEFERRABLE INITIALLY DEFERRED)")


@pytest.fixture
async def writer(home: Path) -> AsyncIterator[Writer]:
    writer = Writer(home / "one.db")
    await writer.start(make)
    yield writer
    await writer.close()


async def handed_in(*tasks: asyncio.Task[Any]) -> None:
    """Until each of these has put its work into the queue."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def in_one_group(writer: Writer, *works: Callable[[sqlite3.Connection], Any]) -> list[Any]:
    gate = Gate()
    first = asyncio.create_task(writer.run(gate))
    await gate.reached()
    tasks = [asyncio.create_task(writer.run(work)) for work in works]
    await handed_in(*tasks)
    gate.open()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def stored(home: Path) -> list[str]:
    with sqlite3.connect(home / "one.db") as connection:
        return [row[0] for row in connection.execute("SELECT id FROM jar ORDER BY id")]


async def test_what_is_withdrawn_before_its_turn_is_not_done(writer: Writer, home: Path) -> None:
    gate = Gate()
    first = asyncio.create_task(writer.run(gate))
    await gate.reached()
    withdrawn, stays = asyncio.create_task(writer.run(put("a"))), asyncio.create_task(writer.run(put("b")))
    await handed_in(withdrawn, stays)
    withdrawn.cancel()
    await asyncio.sleep(0)
    gate.open()
    assert await stays == "b"
    await first
    assert withdrawn.cancelled() and stored(home) == ["b"]


async def test_who_stops_waiting_while_it_is_written_takes_no_answer_from_the_others(
    writer: Writer, home: Path
) -> None:
    before, within = Gate(), Gate()

    def slow(connection: sqlite3.Connection) -> None:
        put("a")(connection)
        within(connection)

    first = asyncio.create_task(writer.run(before))
    await before.reached()
    gone, stays = asyncio.create_task(writer.run(slow)), asyncio.create_task(writer.run(put("b")))
    await handed_in(gone, stays)
    before.open()
    await within.reached()
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    within.open()
    async with asyncio.timeout(PATIENCE_S):
        assert await stays == "b"
    await first
    assert stored(home) == ["a", "b"]
    assert await writer.run(put("c")) == "c"


async def test_what_fails_in_a_group_is_undone_whole_and_alone(writer: Writer, home: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise KeyError("half")

    results = await in_one_group(writer, put("a"), half, put("b"), put("a"), put("c"))
    assert [results[0], results[2], results[4]] == ["a", "b", "c"]
    assert isinstance(results[1], KeyError) and isinstance(results[3], sqlite3.IntegrityError)
    assert stored(home) == ["a", "b", "c"]


async def test_what_fails_alone_is_undone_whole(writer: Writer, home: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise KeyError("half")

    with pytest.raises(KeyError):
        await writer.run(half)
    assert await writer.run(put("a")) == "a"
    assert stored(home) == ["a"]


async def test_who_loses_the_transaction_for_all_is_tried_again_alone_like_everybody_else(
    writer: Writer, home: Path
) -> None:
    tries: list[str] = []

    def only_alone(connection: sqlite3.Connection) -> str:
        tries.append("only alone")
        if len(tries) == 1:
            connection.execute("INSERT OR ROLLBACK INTO jar VALUES ('old', 1)")
        return put("late")(connection)

    def never(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR ROLLBACK INTO jar VALUES ('old', 1)")

    await writer.run(put("old"))
    results = await in_one_group(writer, put("a"), only_alone, put("b"), never, put("c"))
    assert results[:3] == ["a", "late", "b"] and results[4] == "c"
    assert isinstance(results[3], sqlite3.IntegrityError)
    assert len(tries) == 2
    assert stored(home) == ["a", "b", "c", "late", "old"]


async def test_what_only_the_commit_refuses_is_undone_and_its_caller_told(writer: Writer, home: Path) -> None:
    def without_jar(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO lid VALUES ('absent')")
        return put("half")(connection)

    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await writer.run(without_jar)
    assert await writer.run(put("a")) == "a"
    results = await in_one_group(writer, put("b"), without_jar, put("c"))
    assert [results[0], results[2]] == ["b", "c"] and isinstance(results[1], sqlite3.IntegrityError)
    assert stored(home) == ["a", "b", "c"]


async def test_nobody_else_writes_between_a_read_and_the_write_that_follows_from_it(writer: Writer, home: Path) -> None:
    def count_and_put(connection: sqlite3.Connection) -> str:
        [[count]] = connection.execute("SELECT count(*) FROM jar").fetchall()
        other = sqlite3.connect(home / "one.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO jar VALUES ('other', 1)")
        other.close()
        return put(f"number {count}")(connection)

    assert await writer.run(count_and_put) == "number 0"


async def test_no_more_than_a_group_shares_a_commit(writer: Writer) -> None:
    statements: list[str] = []
    assert writer._connection is not None
    writer._connection.set_trace_callback(statements.append)
    names = [f"{n:04}" for n in range(2 * GROUP + 1)]
    assert await in_one_group(writer, *map(put, names)) == names
    assert statements.count("COMMIT") == 1 + 3
    assert statements.count("BEGIN IMMEDIATE") == 1 + 3


async def test_closing_writes_what_was_handed_in_before(home: Path) -> None:
    writer = Writer(home / "one.db")
    with pytest.raises(FileClosed):
        await writer.run(put("early"))
    await writer.start(make)
    gate = Gate()
    first = asyncio.create_task(writer.run(gate))
    await gate.reached()
    tasks = [asyncio.create_task(writer.run(put(f"{n:04}"))) for n in range(2 * GROUP)]
    await handed_in(*tasks)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    gate.open()
    await closing
    assert len(stored(home)) == 2 * GROUP
    assert await asyncio.gather(first, *tasks) == [None, *(f"{n:04}" for n in range(2 * GROUP))]
    with pytest.raises(FileClosed):
        await writer.run(put("late"))
    await writer.close()


async def test_a_file_that_cannot_be_prepared_is_let_go(home: Path) -> None:
    kept: list[sqlite3.Connection] = []

    def fail(connection: sqlite3.Connection) -> None:
        kept.append(connection)
        raise sqlite3.OperationalError("no")

    with pytest.raises(sqlite3.OperationalError, match="no"):
        await Writer(home / "one.db").start(fail)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        kept[0].execute("SELECT 1")


def test_a_thread_whose_event_loop_is_gone_lets_the_file_go(home: Path) -> None:
    gate, writer = Gate(), Writer(home / "one.db")

    async def leave() -> None:
        await writer.start(make)
        task = asyncio.create_task(writer.run(gate))
        await gate.reached()
        assert not task.done()

    asyncio.run(leave())
    gate.open()
    thread, connection = writer._thread, writer._connection
    assert thread is not None and connection is not None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


# Readers -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def reader(writer: Writer, home: Path) -> AsyncIterator[Readers]:
    """One thread that reads the writer's file."""
    readers = Readers(home / "one.db", threads=1)
    readers.start()
    yield readers
    await readers.close()


async def test_a_reader_cannot_write(reader: Readers, home: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reader.run(put("a"))
    assert stored(home) == []


async def test_a_read_that_fails_leaves_the_reader_usable(reader: Readers, writer: Writer) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        await reader.run(lambda connection: connection.execute("SELECT * FROM nowhere"))
    await writer.run(put("a"))
    assert await reader.run(lambda connection: connection.execute("SELECT id FROM jar").fetchall()) == [("a",)]


async def test_a_read_that_nobody_waits_for_any_more_is_not_made(reader: Readers) -> None:
    gate, made = Gate(), []
    first = asyncio.create_task(reader.run(gate))
    await gate.reached()
    withdrawn = asyncio.create_task(reader.run(lambda _: made.append("withdrawn")))
    stays = asyncio.create_task(reader.run(lambda _: made.append("stays")))
    await handed_in(withdrawn, stays)
    withdrawn.cancel()
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, stays)
    assert made == ["stays"]


async def test_closing_the_readers_answers_what_was_asked_and_ends_every_thread(writer: Writer, home: Path) -> None:
    readers = Readers(home / "one.db", threads=3)
    with pytest.raises(FileClosed):
        await readers.run(lambda _: 1)
    readers.start()
    threads = list(readers._threads)
    tasks = [asyncio.create_task(readers.run(lambda _, n=n: n)) for n in range(30)]
    await handed_in(*tasks)
    async with asyncio.timeout(PATIENCE_S):
        await readers.close()
    assert not any(thread.is_alive() for thread in threads)
    assert await asyncio.gather(*tasks) == list(range(30))
    with pytest.raises(FileClosed):
        await readers.run(lambda _: 1)


async def test_closing_the_readers_closes_their_connections(writer: Writer, home: Path) -> None:
    readers = Readers(home / "one.db", threads=2)
    readers.start()
    connection = await readers.run(lambda connection: connection)  # the other thread never opens one
    connection.execute("SELECT 1")
    await readers.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_reader_whose_event_loop_is_gone_lets_the_file_go(home: Path) -> None:
    gate, readers = Gate(), Readers(home / "one.db", threads=1)
    made: list[sqlite3.Connection] = []

    def look(connection: sqlite3.Connection) -> None:
        made.append(connection)
        gate(connection)

    async def leave() -> None:
        readers.start()
        task = asyncio.create_task(readers.run(look))
        await gate.reached()
        assert not task.done()

    asyncio.run(leave())
    gate.open()
    [thread] = readers._threads
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
