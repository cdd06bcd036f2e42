"""What `bench.hostile` says of hostile clients: what it would call let in, leaked and delayed, and that nobody is."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.hostile.attacks import ATTACKS
from bench.hostile.crowd import Crowd, Target, attack
from bench.hostile.gauge import BEYOND_MS, Gauge, longest
from bench.hostile.honest import live
from bench.hostile.town import settle
from tests.app import RunningApp

TARGET = Target(
    port=1, parts=[], seconds=0.7, clients=0, net=10, marker="quill", events={}, pages_per_address=1, asset="",
    cookies=[], keys=[], former="", emails=[], tabs=[], generations=[],
)  # fmt: skip


async def test_a_server_that_says_nothing_of_its_loop_is_no_perfect_one() -> None:
    class Silent:
        def metrics(self) -> str:
            return '{"error": "no_metrics_token"}'

    with pytest.raises(RuntimeError, match="says nothing"):
        await Gauge(Silent()).delays()  # type: ignore[arg-type]


def test_the_longest_delay_is_that_of_the_highest_bucket_with_a_new_one() -> None:
    before = {10.0: 5.0, 50.0: 6.0, 200.0: 6.0, BEYOND_MS: 6.0}
    assert longest(before, {10.0: 9.0, 50.0: 11.0, 200.0: 11.0, BEYOND_MS: 11.0}) == 50.0
    assert longest(before, {10.0: 9.0, 50.0: 11.0, 200.0: 11.0, BEYOND_MS: 12.0}) == BEYOND_MS
    assert longest(before, {10.0: 9.0, 50.0: 10.0, 200.0: 10.0, BEYOND_MS: 10.0}) == 10.0
    assert longest(before, before) == 0


def test_what_passes_a_bound_is_let_in() -> None:
    crowd = Crowd(TARGET)
    for _ in range(3):
        crowd.count("open from 127.0.0.1", 2, "too many pages")
        crowd.count("open from 127.0.0.2", 3, "too many pages")
    assert crowd.tally.let_in == {"too many pages": 1}


def test_a_word_of_honest_people_is_a_leak() -> None:
    crowd = Crowd(TARGET)
    for data in (b'{"name":"quill-1"}', b"a quilt", b""):
        crowd._saw(data)
    assert crowd.tally.leaked == 1


def test_clients_have_addresses_in_common() -> None:
    crowd = Crowd(TARGET)
    assert len({crowd.source(number) for number in range(200)}) == 4
    assert len({crowd.source(number, 150) for number in range(200)}) == 2


async def test_honest_people_who_get_no_answer_are_counted() -> None:
    async def fine() -> None:
        return

    async def broken() -> None:
        raise ValueError("nothing came")

    rounds = await live([fine, broken], 0.01)
    assert (rounds.ok, rounds.all) == (1, 2)
    assert "nothing came" in rounds.failed[0]


@pytest.mark.e2e
async def test_every_attack_is_made_and_gets_nothing(tmp_path: Path) -> None:
    with RunningApp(tmp_path / "home") as app:
        town = await settle(app)
        for one in (town.on_pages[0].on_a_page, town.with_programs[0].in_a_program, town.with_programs[0].in_a_program):
            await one()
        for net, (name, part) in enumerate(ATTACKS.items()):
            ways = part.ways
            crowd = Crowd(
                replace(town.target, parts=[name], seconds=TARGET.seconds, clients=2 * len(ways), net=20 + net)
            )
            tally = await attack(crowd, ways)
            assert tally.tried >= 2 * len(ways), name
            assert (tally.let_in, tally.leaked) == ({}, 0), name
