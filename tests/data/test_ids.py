"""Identifiers: UUIDs of version 7, which sort by the time of their creation."""

import uuid

import pytest

from chat_app.data import ids
from chat_app.data.ids import new_id, now_ms


def test_an_id_is_a_uuid_of_version_7_that_holds_its_time() -> None:
    began = now_ms()
    for _ in range(100):  # of random bits, too few would be wrong by chance
        made = new_id()
        parsed = uuid.UUID(made)
        assert (parsed.hex, parsed.version, parsed.variant) == (made, 7, uuid.RFC_4122)
        assert began <= parsed.int >> 80 <= now_ms()


def test_a_later_id_sorts_behind_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0, 1, 999, 2**40, 2**48 - 1]
    made = []
    for at in times:
        monkeypatch.setattr(ids, "now_ms", lambda at=at: at)
        made.append(new_id())
    assert made == sorted(made)
    assert {len(one) for one in made} == {32}


def test_every_bit_that_is_random_is() -> None:
    """All but the time's 48, the version's four and the variant's two."""
    seen = [int(new_id(), 16) for _ in range(200)]
    for bit in (*range(62), *range(64, 76)):
        assert len({number >> bit & 1 for number in seen}) == 2, bit
    assert {number >> 76 & 0xF for number in seen} == {7}
    assert {number >> 62 & 0x3 for number in seen} == {2}
