"""Timing of calls within a time budget."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_seconds(call: Callable[[], object], max_calls: int, budget_s: float) -> float:
    """Return the least wall time of up to `max_calls` calls.

    After `budget_s` seconds no further call is started; one is always timed.
    """
    started = time.perf_counter()
    best = float("inf")
    for _ in range(max_calls):
        before = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - before)
        if now - started >= budget_s:
            break
    return best
