"""The failure detector judges only after contact without gaps."""

from worker.consumer.failure_detector import FailureDetector


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def keep_contact(
    clock: Clock, detector: FailureDetector, seconds: float, every: float = 1.0
) -> None:
    """Let the detector have contact with Redis for `seconds`."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        detector.contact()


def test_new_detector_may_not_judge() -> None:
    clock = Clock()
    detector = FailureDetector(10.0, clock)
    assert not detector.may_judge()
    keep_contact(clock, detector, 9)
    assert not detector.may_judge()
    keep_contact(clock, detector, 1)
    assert detector.may_judge()


def test_gap_starts_a_new_span() -> None:
    clock = Clock()
    detector = FailureDetector(10.0, clock)
    keep_contact(clock, detector, 20)
    clock.now += 6  # Redis was away, or this machine slept
    assert not detector.may_judge()
    detector.contact()
    assert not detector.may_judge()
    keep_contact(clock, detector, 10)
    assert detector.may_judge()


def test_short_gaps_are_allowed() -> None:
    clock = Clock()
    detector = FailureDetector(10.0, clock)
    keep_contact(clock, detector, 20, every=4.0)
    assert detector.may_judge()
