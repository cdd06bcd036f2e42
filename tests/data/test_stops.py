"""Requests to stop that come before, during and after the writing that they are meant for."""

from chat_app.data.log import stops as module
from chat_app.data.log.stops import Stops


def test_a_request_sets_the_event_of_its_generation_alone() -> None:
    stops = Stops()
    mine, other = stops.event("g"), stops.event("h")
    stops.request("g")
    assert mine.is_set()
    assert not other.is_set()
    assert stops.event("g") is mine


def test_an_early_request_is_heard_once() -> None:
    stops = Stops()
    stops.request("g")
    assert stops.event("g").is_set()
    stops.forget("g")
    assert not stops.event("g").is_set()
    stops.forget("never there")
    assert len(stops) == 1


def test_only_the_last_early_requests_are_remembered() -> None:
    stops = Stops()
    for n in range(module.MOST_EARLY + 1):
        stops.request(f"g{n}")
    assert len(stops) == 0
    assert not stops.event("g0").is_set()
    assert stops.event("g1").is_set()
    assert stops.event(f"g{module.MOST_EARLY}").is_set()
