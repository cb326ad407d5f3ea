"""How long something takes, measured for no longer than there is time."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_seconds(call: Callable[[], object], most: int, budget_s: float) -> float:
    """The least wall time of up to `most` calls; after `budget_s` seconds no other is begun, but
    one is always timed."""
    started = time.perf_counter()
    best = float("inf")
    for _ in range(most):
        before = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - before)
        if now - started >= budget_s:
            break
    return best
