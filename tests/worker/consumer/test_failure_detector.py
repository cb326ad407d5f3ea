"""When silence may be called death."""

from worker.consumer.failure_detector import FailureDetector


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(clock: Clock, vigil: FailureDetector, seconds: float, every: float = 1.0) -> None:
    """Be in contact for a while."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        vigil.contact()


def test_who_has_just_come_may_not_judge() -> None:
    clock = Clock()
    vigil = FailureDetector(10.0, clock)
    assert not vigil.may_judge()
    watched(clock, vigil, 9)
    assert not vigil.may_judge()
    watched(clock, vigil, 1)
    assert vigil.may_judge()


def test_after_a_gap_the_watch_begins_anew() -> None:
    clock = Clock()
    vigil = FailureDetector(10.0, clock)
    watched(clock, vigil, 20)
    clock.now += 6  # Redis was away, or this machine slept
    assert not vigil.may_judge()
    vigil.contact()
    assert not vigil.may_judge()
    watched(clock, vigil, 10)
    assert vigil.may_judge()


def test_short_gaps_are_forgiven() -> None:
    clock = Clock()
    vigil = FailureDetector(10.0, clock)
    watched(clock, vigil, 20, every=4.0)
    assert vigil.may_judge()
