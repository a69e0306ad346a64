"""Who may ask a server that did not answer in time, and when."""

from __future__ import annotations

from millrace.online.breaker import Breaker


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(first_s=1.0, most_s=4.0, clock=clock), clock


def test_everybody_may_ask_a_server_that_answers() -> None:
    breaker, _ = make()
    breaker.answered()
    assert [breaker.admit() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_after_a_timeout_nobody_asks_until_the_pause_is_over_and_then_one_does() -> None:
    breaker, clock = make()
    breaker.timed_out()
    assert breaker.admit() == 1.0
    clock.now += 0.75
    assert breaker.admit() == 0.25
    clock.now += 0.25
    assert breaker.admit() == 0.0
    assert breaker.admit() > 0
    breaker.answered()
    assert [breaker.admit(), breaker.admit()] == [0.0, 0.0]


def test_each_further_timeout_doubles_the_pause_up_to_the_longest() -> None:
    breaker, clock = make()
    pauses = []
    for _ in range(4):
        for _ in range(3):  # those that waited at the same time count once
            breaker.timed_out()
        pauses.append(breaker.admit())
        clock.now += pauses[-1]
        assert breaker.admit() == 0.0
    assert pauses == [1.0, 2.0, 4.0, 4.0]
    breaker.answered()
    breaker.timed_out()
    assert breaker.admit() == 1.0
