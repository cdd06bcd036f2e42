"""Carrying pieces: in order, until the end, the hang-up or the error, with a sign of life in silences."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from chat_app.data.log.base import Piece
from chat_app.gateway import pieces as module
from chat_app.gateway.pieces import HungUp, carry


class Source:
    """Pieces with a pause before each; remembers whether it was closed."""

    def __init__(self, *pieces: Piece, pause: float = 0.0) -> None:
        self._pieces = pieces
        self._pause = pause
        self.closed = False

    async def follow(self) -> AsyncGenerator[Piece, None]:
        try:
            for piece in self._pieces:
                await asyncio.sleep(self._pause)
                yield piece
            await asyncio.sleep(3600 if self._pause else 0)
        finally:
            self.closed = True


class Line:
    """A program at the other end: what it was sent, and when it hangs up."""

    def __init__(self, hang_up_after: float | None = None) -> None:
        self._after = hang_up_after
        self.heard: list[str] = []

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(3600 if self._after is None else self._after)
        return {"type": "http.disconnect"}

    async def deliver(self, piece: Piece) -> None:
        self.heard.append(piece.text)

    async def keep_alive(self) -> None:
        self.heard.append("…")


PIECES = (Piece(0, "ab"), Piece(2, "c"), Piece(3, "", "done"))


async def test_every_piece_arrives_in_order_and_the_status_is_answered() -> None:
    source, line = Source(*PIECES), Line()
    assert await carry(source.follow(), line.deliver, line.receive) == "done"
    assert line.heard == ["ab", "c", ""]
    assert source.closed


async def test_an_unknown_answer_ends_without_a_status() -> None:
    line = Line()
    assert await carry(Source().follow(), line.deliver, line.receive) is None


async def test_a_hang_up_is_said_at_once_and_the_source_closed() -> None:
    source, line = Source(PIECES[0], pause=0.01), Line(hang_up_after=0.05)
    with pytest.raises(HungUp):
        await asyncio.wait_for(carry(source.follow(), line.deliver, line.receive), 5)
    assert line.heard == ["ab"]
    assert source.closed


async def test_a_broken_pipe_is_a_hang_up() -> None:
    async def broken(_: Piece) -> None:
        raise BrokenPipeError

    source = Source(*PIECES)
    with pytest.raises(HungUp):
        await carry(source.follow(), broken, Line().receive)
    assert source.closed


async def test_a_silence_is_filled_and_only_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.1)
    line = Line()
    assert await carry(Source(*PIECES, pause=0.25).follow(), line.deliver, line.receive, line.keep_alive) == "done"
    assert line.heard[0] == line.heard[1] == "…"
    assert [text for text in line.heard if text != "…"] == ["ab", "c", ""]
    steady, quick = (*(Piece(n, "x") for n in range(10)), Piece(10, "", "done")), Line()
    await carry(Source(*steady, pause=0.03).follow(), quick.deliver, quick.receive, quick.keep_alive)
    assert "".join(quick.heard) == "x" * 10


async def test_being_cancelled_closes_the_source() -> None:
    source, line = Source(PIECES[0], pause=0.01), Line()
    task = asyncio.create_task(carry(source.follow(), line.deliver, line.receive))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
