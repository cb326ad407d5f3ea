"""Decides if this worker may judge that other workers are dead."""

import time
from collections.abc import Callable


class FailureDetector:
    """Allows a judgement only after contact with Redis for a whole span, a lease's length.

    After an outage of Redis, or after this machine slept, every lease looks expired, also those of
    live workers that are about to renew. A gap of half a span therefore starts a new span.
    """

    def __init__(self, span_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._span_s = span_s
        self._clock = clock
        self._since = self._last = clock()

    def contact(self) -> None:
        """Note that Redis has just answered."""
        now = self._clock()
        if now - self._last > self._span_s / 2:
            self._since = now
        self._last = now

    def may_judge(self) -> bool:
        now = self._clock()
        return now - self._since >= self._span_s and now - self._last <= self._span_s / 2
