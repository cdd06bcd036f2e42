"""A `+` that joins text becomes no `-`: it fails with a TypeError wherever it runs, and every test would notice it."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import sample
from tests.mutants.rooms import Room
from tests.mutants.sites import sites

ROOT = Path(__file__).resolve().parents[2]

JOINED = """
from somewhere import PREFIX, number, one, two
RATE = PREFIX + "rate:"

class Reader:
    seen: frozenset[str]

    def __init__(self) -> None:
        self.past, self.open = b"", ""

    def read(self, piece, key: str, more: list[int]) -> bytes:
        rest = self.open + piece
        keys = [RATE + name for name in one]
        late = (lambda name: name + key)(piece)
        self.past = two(self.past + piece)
        self.read(piece, key, more + two) + piece
        return f"{one}" + two or one + "two" + two or "".join(one) + two or (str(number) + two)

    def left(self) -> set[str]:
        return self.seen - one or {*one, 2} - two or self.left() - one or RATE[1:] + one
"""

ADDED = """
from somewhere import MOST, one, two

class Reader:
    def __init__(self) -> None:
        self.offset, self.text = 0, ""

    def read(self, text: str, at: int) -> int:
        part = text[at - 1 : at + MOST]
        places = [None] * (len(part) - 1)
        return self.offset + len(text) - one(text + part) + text.index("x") or self.offset - two

    def length(self) -> int:
        text = len(self.text)
        return text + 1
"""


def signs(path: Path, source: str) -> list[int]:
    """The lines where a `+` is turned into a `-`, or the other way."""
    path.write_text(source)
    found = sites(path.parent, path.name)
    return sorted(site.line for site in found if site.operator.endswith(("Add_Sub", "Sub_Add")))


def test_what_joins_text_or_collections_keeps_its_sign(tmp_path: Path) -> None:
    assert signs(tmp_path / "joined.py", JOINED) == []


def test_what_adds_numbers_does_not(tmp_path: Path) -> None:
    lines = ADDED.splitlines()
    places = [(9, 2), (10, 1), (11, 4), (15, 1)]
    assert all("+" in lines[line - 1] or "-" in lines[line - 1] for line, _ in places)
    assert signs(tmp_path / "added.py", ADDED) == [line for line, times in places for _ in range(times)]


@pytest.mark.parametrize(
    ("path", "joined", "added"),
    [
        ("chat_app/data/limits/valkey.py", ("RATE -", "PLACES -"), ""),
        ("chat_app/data/log/entries.py", ("self._open - piece",), "+self.offset += len(frame) - 1"),
        ("chat_app/sessions/thread_views.py", (' - "…"',), "TITLE_CHARS + 1"),
    ],
)
def test_in_parleys_own_files(path: str, joined: tuple[str, ...], added: str) -> None:
    lines = [line for site in sites(ROOT, path) for line in site.diff]
    assert not [line for line in lines for code in joined if code in line]
    assert any(added in line for line in lines)


def test_the_same_seed_makes_the_same_choice() -> None:
    rooms = [Room("limits", ("chat_app/data/limits",), ())]
    one, two, other = (sample(ROOT, rooms, [], 20, seed) for seed in (9, 9, 10))
    assert one == two != other
