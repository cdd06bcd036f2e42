"""The lists of tests name what is there, and leave out no quick test of a room."""

from pathlib import Path

import pytest

from tests.mutants.rooms import ROOMS, Room

ROOT = Path(__file__).resolve().parents[2]
WHOLE = ("turn", "tools", "billing", "sessions", "data", "safety")
"""Folders of tests of which a bug in their rooms must get all."""


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_pattern_finds_something(room: Room) -> None:
    for pattern in room.paths:
        assert Room("", (pattern,), ()).files(ROOT), pattern
    for pattern in room.tests:
        assert Room("", (), (pattern,)).test_files(ROOT), pattern


@pytest.mark.parametrize("folder", WHOLE)
def test_no_test_is_left_out(folder: str) -> None:
    listed = {test for room in ROOMS for test in room.test_files(ROOT)}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / folder).glob("test_*.py")}
    assert there - listed == set()


def test_a_bug_in_the_turn_meets_lost_commits_and_takeovers() -> None:
    [turn] = [room for room in ROOMS if room.name == "turn"]
    assert {"tests/faults/test_lost_commits.py", "tests/faults/test_taken_over.py"} <= set(turn.test_files(ROOT))


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("turn", {"bounded_work", "secrets_kept"}),
        ("safety", {"bounded_work", "secrets_kept"}),
        ("gateway", {"body_after_limits", "bounded_work"}),
    ],
)
def test_a_bug_meets_the_attacks_on_its_room(name: str, tests: set[str]) -> None:
    [room] = [room for room in ROOMS if room.name == name]
    assert {f"tests/security/test_{test}.py" for test in tests} <= set(room.test_files(ROOT))
