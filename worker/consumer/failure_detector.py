"""Whether one has watched long enough, without a gap, to call somebody else dead."""

import time
from collections.abc import Callable


class FailureDetector:
    """Guards the reaper's judgement.

    After an outage of Redis, or after this machine slept, every lease looks expired, also those of
    workers that are well and about to renew. So leases may be judged only by who has been in
    contact with Redis for a whole span, a lease's length, without a break of half of it.
    """

    def __init__(self, span_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._span_s = span_s
        self._clock = clock
        self._since = self._last = clock()

    def contact(self) -> None:
        """Redis has just answered."""
        now = self._clock()
        if now - self._last > self._span_s / 2:
            self._since = now
        self._last = now

    def may_judge(self) -> bool:
        now = self._clock()
        return now - self._since >= self._span_s and now - self._last <= self._span_s / 2
