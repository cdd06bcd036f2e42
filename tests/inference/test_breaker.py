"""The breaker: opens after failures in a row, lets one request through after a while, closes when that one succeeds."""

from inference.breaker import FAILURES, FIRST_PAUSE_S, JITTER, LONGEST_PAUSE_S, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock, dice: float = 0.5) -> Breaker:
    breaker = Breaker(clock, lambda: dice)
    for _ in range(FAILURES):
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_and_no_sooner() -> None:
    breaker = Breaker(Clock())
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed()
    assert breaker.state == "closed" and breaker.admits
    breaker.failed()
    assert breaker.state == "open" and not breaker.admits


def test_half_open_it_takes_one_request_at_a_time() -> None:
    breaker = broken(clock := Clock())
    clock.now += FIRST_PAUSE_S
    assert breaker.state == "half_open" and breaker.admits
    breaker.sent()
    assert not breaker.admits
    breaker.unknown()
    assert breaker.admits


def test_a_success_closes_it_and_forgets() -> None:
    breaker = broken(clock := Clock())
    clock.now += FIRST_PAUSE_S
    breaker.sent()
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "closed"


def test_an_answer_that_began_closes_it_but_its_loss_opens_it_again() -> None:
    breaker = broken(clock := Clock())
    clock.now += FIRST_PAUSE_S
    breaker.sent()
    breaker.flows()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"


def test_the_pause_doubles_up_to_a_limit() -> None:
    breaker = broken(clock := Clock())
    pauses = []
    for _ in range(2_000):
        began = clock.now
        while breaker.state == "open":
            clock.now += 0.25
        pauses.append(clock.now - began)
        breaker.failed()
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert set(pauses[5:]) == {LONGEST_PAUSE_S}


def test_clients_do_not_come_back_all_at_once() -> None:
    for dice, pause in ((0.0, FIRST_PAUSE_S * (1 - JITTER)), (1.0, FIRST_PAUSE_S * (1 + JITTER))):
        breaker = broken(clock := Clock(), dice)
        clock.now += pause - 0.01
        assert breaker.state == "open"
        clock.now += 0.02
        assert breaker.state == "half_open"
