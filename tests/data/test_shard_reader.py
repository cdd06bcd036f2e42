"""What a process makes of where the store says that its own logs stand."""

from collections.abc import Mapping
from typing import Any

import pytest

from chat_app.data.log.base import Piece
from chat_app.data.log.mirror import Mirrors
from chat_app.data.log.shard_reader import ShardReader


async def _nothing(_: str) -> Piece:
    return Piece(0, "")


@pytest.mark.parametrize(
    ("known_end", "stored", "disowned"),
    [
        (None, {"fence": 3, "ended": False}, False),
        (None, {"fence": 4, "ended": False}, True),
        (None, {"fence": 4, "ended": True}, True),
        (None, {"fence": 3, "ended": True}, True),
        ("done", {"fence": 3, "ended": True}, False),
    ],
    ids=["still ours", "another owner", "another owner, ended", "ended without our knowing", "ended as we know"],
)
async def test_a_log_is_given_up_once_it_is_anothers_or_over(
    known_end: str | None, stored: Mapping[str, Any], disowned: bool
) -> None:
    mirrors = Mirrors(_nothing)
    mirror = mirrors.own("g", 3, "text", known_end)
    given_up: list[tuple[str, int]] = []
    reader = ShardReader("redis://127.0.0.1:1", mirrors, lambda _: None, lambda *what: given_up.append(what))
    reader._settle("g", mirror, length=4, stop=False, **stored)
    assert given_up == ([("g", 3)] if disowned else [])


async def test_a_stop_reaches_a_log_that_is_written_here_and_no_other() -> None:
    mirrors, stopped = Mirrors(_nothing), list[str]()
    reader = ShardReader("redis://127.0.0.1:1", mirrors, stopped.append, lambda *_: None)
    ours = mirrors.own("ours", 3, "text", None)
    reader._settle("ours", ours, 3, 4, ended=False, stop=False)
    assert stopped == []
    reader._settle("ours", ours, 3, 4, ended=False, stop=True)
    assert stopped == ["ours"]
