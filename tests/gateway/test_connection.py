"""The connection: sends in order, a hang-up that ends what runs, and no task where none is needed."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from chat_app.gateway import connection as module
from chat_app.gateway import edge
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.edge import TooLarge, TooSlow


class Program:
    """A program at the other end: what it says, what it was sent, and when it hangs up."""

    def __init__(self, *said: dict[str, Any], hangs_up_after: float | None = None) -> None:
        self._said = list(said)
        self._after = hangs_up_after
        self.got: list[dict[str, Any]] = []
        self.receives = 0

    async def receive(self) -> dict[str, Any]:
        self.receives += 1
        if self._said:
            return self._said.pop(0)
        await asyncio.sleep(3600 if self._after is None else self._after)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.got.append(message)

    @property
    def connection(self) -> Connection:
        return Connection(self.receive, self.send)


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AFTER_S", 0.01)


async def test_a_body_comes_in_parts() -> None:
    assert await Program(part(b"ab", True), part(b"", True), part(b"c")).connection.body(3) == b"abc"
    assert await Program({"type": "http.request"}).connection.body(0) == b""


async def test_a_body_is_bounded_while_it_is_read() -> None:
    program = Program(part(b"ab", True), part(b"cd", True), part(b"never read"))
    with pytest.raises(TooLarge):
        await program.connection.body(3)
    assert program.receives == 2


async def test_a_body_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_S", 0.05)

    class Slow(Program):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0.02)
            return part(b"a", True)

    with pytest.raises(TooSlow):
        await Slow().connection.body(1_000)
    with pytest.raises(TooSlow):
        await Program().connection.body(1_000)


async def test_a_body_comes_in_so_many_parts_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "MOST_PARTS", 3)
    assert await Program(part(b"a", True), part(b"b", True), part(b"c")).connection.body(9) == b"abc"
    program = Program(*[part(b"a", True)] * 9)
    with pytest.raises(TooSlow):
        await program.connection.body(9)
    assert program.receives == 4


async def test_what_comes_behind_a_body_has_no_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_S", 0.02)
    monkeypatch.setattr(edge, "MOST_PARTS", 1)
    receive = edge.bounded(Program(part(b"ab"), hangs_up_after=0.1).receive, 2)
    assert (await receive())["body"] == b"ab"
    assert (await receive())["type"] == "http.disconnect"


async def test_a_body_that_breaks_off_is_a_hang_up() -> None:
    with pytest.raises(HungUp):
        await Program(part(b"ab", True), {"type": "http.disconnect"}).connection.body(3)


async def test_a_body_that_was_given_up_leaves_its_connection_unusable() -> None:
    program = Program(part(b"ab", True), part(b"cd", True), part(b"ef"))
    connection = program.connection
    with pytest.raises(TooLarge):
        await connection.body(3)
    assert not await connection.emptied(6)
    assert program.receives == 2  # Nor is the rest of it read.


async def test_a_whole_response_has_its_length() -> None:
    program, began = Program(), []
    connection = Connection(program.receive, program.send, lambda: began.append(len(program.got)))
    assert connection.status == 0
    await connection.respond(201, b"four", ((b"a", b"b"),))
    assert program.got == [
        {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b"), (b"content-length", b"4")]},
        {"type": "http.response.body", "body": b"four", "more_body": False},
    ]
    assert (connection.status, began) == (201, [0])


@pytest.mark.parametrize("broken", ["http.response.start", "http.response.body"])
async def test_a_broken_pipe_is_a_hang_up_wherever_it_breaks(broken: str) -> None:
    async def send(message: Any) -> None:
        if message["type"] == broken:
            raise BrokenPipeError

    with pytest.raises(HungUp):
        await Connection(Program().receive, send).respond(200, b"", ())


async def test_a_hang_up_ends_what_runs_within() -> None:
    undone = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            undone.set()

    program = Program(part(b"left over"), hangs_up_after=0.02)
    with pytest.raises(HungUp):
        async with asyncio.timeout(5), program.connection:
            await work()
    assert undone.is_set()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    await asyncio.sleep(0)  # Would raise if a cancellation were left behind.


async def test_a_short_request_starts_no_task() -> None:
    program, before = Program(hangs_up_after=0.0), len(asyncio.all_tasks())
    async with program.connection as connection:
        await connection.write(b"")
        assert len(asyncio.all_tasks()) == before
    await asyncio.sleep(0.05)
    assert program.receives == 0


async def test_a_long_request_leaves_no_task_behind() -> None:
    program, before = Program(), len(asyncio.all_tasks())
    async with program.connection:
        await asyncio.sleep(0.05)
        assert program.receives == 1
        assert len(asyncio.all_tasks()) == before + 1
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == before


async def test_a_server_that_cancels_is_not_a_hang_up() -> None:
    async def run(program: Program) -> None:
        async with program.connection:
            await asyncio.sleep(3600)

    for program in (Program(), Program(hangs_up_after=0.0)):
        task = asyncio.create_task(run(program))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_server_that_cancels_at_the_same_moment_is_obeyed() -> None:
    hung_up = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        async with Connection(receive, Program().send):
            await asyncio.sleep(3600)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    hung_up.set()
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_hang_up_that_was_swallowed_is_said_at_the_next_send() -> None:
    program = Program(hangs_up_after=0.0)
    with pytest.raises(HungUp):
        async with program.connection as connection:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            await connection.write(b"to nobody")
    assert program.got == []


async def test_a_receive_that_fails_is_a_hang_up() -> None:
    async def receive() -> Any:
        raise ConnectionResetError

    with pytest.raises(HungUp):
        async with asyncio.timeout(5), Connection(receive, Program().send):
            await asyncio.sleep(3600)


@pytest.mark.parametrize(("most", "parts"), [(3, 10_000), (1_000, 3)], ids=["too large", "too many parts"])
async def test_a_body_that_nobody_reads_and_that_breaks_its_bounds_is_a_hang_up(
    most: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "MOST_PARTS", parts)
    program = Program(*[part(b"a", True)] * 9)
    with pytest.raises(HungUp):
        async with asyncio.timeout(5), Connection(edge.bounded(program.receive, most), program.send):
            await asyncio.sleep(3600)


async def test_an_error_within_stays_itself() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with Program().connection:
            raise ValueError("mine")
