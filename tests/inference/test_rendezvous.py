"""Rendezvous hashing: even, the same everywhere, and only the threads of who left move."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.rendezvous import rank

KEYS = [f"thread-{number}" for number in range(4_000)]
NAMES = [f"http://10.0.0.{number}:8100" for number in range(1, 6)]


def home(key: str, names: Sequence[str]) -> str:
    return max(names, key=lambda name: rank(key, name))


def test_it_is_the_same_in_every_process_and_version() -> None:
    assert rank("thread", "http://a:1") == pytest.approx(1.8798776430173152)


def test_threads_spread_evenly() -> None:
    counted = Counter(home(key, NAMES) for key in KEYS)
    assert all(0.85 < counted[name] / (len(KEYS) / len(NAMES)) < 1.15 for name in NAMES)


def test_threads_spread_by_weight() -> None:
    weights = dict(zip(NAMES, (1, 1, 2, 4, 8), strict=True))
    counted = Counter(max(NAMES, key=lambda name: rank(key, name, weights[name])) for key in KEYS)
    for name, weight in weights.items():
        assert counted[name] == pytest.approx(len(KEYS) * weight / 16, rel=0.2)


def test_when_one_leaves_its_threads_alone_move_and_to_all_the_others() -> None:
    gone, *left = NAMES
    moved = [key for key in KEYS if home(key, NAMES) != home(key, left)]
    assert {home(key, NAMES) for key in moved} == {gone}
    assert len(moved) == pytest.approx(len(KEYS) / len(NAMES), rel=0.15)
    assert {home(key, left) for key in moved} == set(left)


@given(st.text(), st.lists(st.text(), min_size=2, max_size=8, unique=True), st.data())
def test_nobody_moves_who_did_not_have_to(key: str, names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]
    before = home(key, names)
    assert before == gone or home(key, left) == before
